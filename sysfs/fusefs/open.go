package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// openFile is what one open(2) made. Reading follows the kernel's seq_file.
type openFile struct {
	file *sysfs.File
	lock lockdep.Mode // how the kernel holds the inode's lock while it writes

	mu      lockdep.RWSem // of->mutex, taken for writing only: an RWSem's wait can be interrupted
	content bytes.Buffer  // mu: what the last Show gave
	next    uint64        // mu: where the last read ended; 0: content is not valid
}

func newOpenFile(f *sysfs.File, lock lockdep.Mode) *openFile {
	of := &openFile{file: f, lock: lock}
	of.mu.Init(lockdep.OpenFile)
	return of
}

// read copies what stands at offset into buf and returns its length. Who goes on
// where the last read ended sees the same snapshot; any other offset, and 0, makes
// a new one. What is left of a snapshot can be read even when the file is removed,
// its end cannot.
func (of *openFile) read(ctx context.Context, buf []byte, offset uint64) (int, error) {
	if err := of.mu.LockContext(ctx); err != nil {
		return 0, err
	}
	defer of.mu.Unlock()
	if offset == 0 || offset != of.next {
		of.next = 0
		of.content.Reset()
		if err := of.file.Show(ctx, &of.content); err != nil {
			return 0, err
		}
		of.next = offset
	}
	if offset < uint64(of.content.Len()) {
		n := copy(buf, of.content.Bytes()[offset:])
		of.next += uint64(n)
		return n, nil
	}
	if of.file.Removed() {
		return 0, fmt.Errorf("read %q: %w", of.file.Path(), sysfs.ErrGone)
	}
	return 0, nil
}

// write runs one Store, when it is this file's turn and slots has room.
func (of *openFile) write(ctx context.Context, data []byte, slots chan struct{}) (int, error) {
	if err := of.mu.LockContext(ctx); err != nil {
		return 0, err
	}
	defer of.mu.Unlock()
	select {
	case slots <- struct{}{}:
	default: // one select would heed a signal even where there is room
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	defer func() { <-slots }()
	return of.file.Store(ctx, data)
}

// dirEntry is one line of a listing. "." and ".." have no node.
type dirEntry struct {
	name string
	ino  uint64
	mode uint32 // type bits
	next uint64 // the offset behind it
	node sysfs.Node
}

// list yields the entries of a directory from offset on: "." at 0, ".." at 1,
// and each child at its position. So an offset stays right for ever, for every
// descriptor, whatever comes and goes, and no name is listed twice.
func list(dir *sysfs.Kobject, offset uint64) iter.Seq[dirEntry] {
	return func(yield func(dirEntry) bool) {
		if offset == 0 && !yield(dirEntry{".", dir.Ino(), modeDir, 1, nil}) {
			return
		}
		up := dir.Parent()
		if up == nil {
			up = dir
		}
		if offset <= 1 && !yield(dirEntry{"..", up.Ino(), modeDir, 2, nil}) {
			return
		}
		for at, n := range dir.List(offset) {
			if !yield(dirEntry{n.Name(), n.Ino(), typeBits(n), at + 1, n}) {
				return
			}
		}
	}
}
