package fusefs

import (
	"bytes"
	"context"
	"fmt"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// openFile is what one open(2) made.
type openFile struct {
	file *sysfs.File

	mu      lockdep.RWSem // of->mutex, taken for writing only: an RWSem's wait can be interrupted
	content bytes.Buffer  // mu: what the last Show gave
	shown   bool          // mu: content is valid
}

func newOpenFile(f *sysfs.File) *openFile {
	of := &openFile{file: f}
	of.mu.Init(lockdep.OpenFile)
	return of
}

// read copies what stands at offset into buf and returns its length. Offset 0
// makes a new snapshot. What is left of a snapshot can be read even when the
// file is removed, its end cannot.
func (of *openFile) read(ctx context.Context, buf []byte, offset uint64) (int, error) {
	if err := of.mu.LockContext(ctx); err != nil {
		return 0, err
	}
	defer of.mu.Unlock()
	if offset == 0 || !of.shown {
		of.content.Reset()
		of.shown = false
		if err := of.file.Show(ctx, &of.content); err != nil {
			return 0, err
		}
		of.shown = true
	}
	if offset < uint64(of.content.Len()) {
		return copy(buf, of.content.Bytes()[offset:]), nil
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
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-slots }()
	return of.file.Store(ctx, data)
}

// openDir is what one opendir(3) made.
type openDir struct {
	dir *sysfs.Kobject

	mu      lockdep.Mutex
	entries []dirEntry // mu: listed when reading began
}

// dirEntry is one line of a listing. "." and ".." have no node.
type dirEntry struct {
	name string
	ino  uint64
	mode uint32 // type bits
	node sysfs.Node
}

func newOpenDir(k *sysfs.Kobject) *openDir {
	od := &openDir{dir: k}
	od.mu.Init(lockdep.OpenFile)
	return od
}

// list returns the entries from offset on. Offset 0 lists the directory anew.
func (od *openDir) list(offset uint64) []dirEntry {
	od.mu.Lock()
	defer od.mu.Unlock()
	if offset == 0 || od.entries == nil {
		up := od.dir
		if p := od.dir.Parent(); p != nil {
			up = p
		}
		od.entries = []dirEntry{
			{".", od.dir.Ino(), modeDir, nil},
			{"..", up.Ino(), modeDir, nil},
		}
		for _, n := range od.dir.Children() {
			od.entries = append(od.entries, dirEntry{n.Name(), n.Ino(), typeBits(n), n})
		}
	}
	return od.entries[min(offset, uint64(len(od.entries))):]
}
