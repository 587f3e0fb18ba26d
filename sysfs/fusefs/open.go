package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// openFile is the result of one open(2). Reading follows the kernel's seq_file.
type openFile struct {
	file *sysfs.File
	lock lockdep.Mode // how the kernel holds the inode's lock during a write

	mu      lockdep.RWSem // of->mutex, taken for writing only; its waits can be interrupted
	content bytes.Buffer  // mu: the result of the last Show
	next    uint64        // mu: where the last read ended; 0: content is not valid
}

func newOpenFile(f *sysfs.File, lock lockdep.Mode) *openFile {
	of := &openFile{file: f, lock: lock}
	of.mu.Init(lockdep.OpenFile)
	return of
}

// read copies the content at offset into buf and returns how much it copied. A
// read that continues where the last one ended sees the same snapshot. A read
// at offset 0 or any other offset makes a new snapshot. If the file is removed,
// the rest of a snapshot can still be read, but a read at its end is an error.
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

// write runs one Store, when it is this write's turn and slots has room.
func (of *openFile) write(ctx context.Context, data []byte, slots chan struct{}) (int, error) {
	if err := of.mu.LockContext(ctx); err != nil {
		return 0, err
	}
	defer of.mu.Unlock()
	select {
	case slots <- struct{}{}:
	default: // a single select could heed a signal even if there is room
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
	next uint64 // the offset after it
	node sysfs.Node
}

// list yields the entries of a directory from offset on: "." at 0, ".." at 1,
// and each child at its position. So an offset stays correct forever and for
// every descriptor, even if entries come and go, and no name is listed twice.
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
