package sysfs

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math"

	"slabfs/internal/lockdep"
)

// PageSize is, as in Linux, the size that stat shows for a file that is not
// Seq, and the most that one Store gets. One Show can give one byte less.
const PageSize = 4096

// An Attribute defines a file. All kobjects that have such a file share one
// definition. It must not be changed once it is in use.
//
// Show and Store may run several times at once, also for one file. Their
// context ends when the caller is interrupted or killed. Until they change
// something they may wait on the context, and then return its error. They must
// not keep the context or the data. They may remove kobjects, except a kobject
// that contains their own file.
type Attribute struct {
	Name string

	// Mode has the permission bits. A read bit needs Show, a write bit
	// needs Store.
	Mode fs.FileMode

	// Show writes the content to w.
	Show func(ctx context.Context, obj any, w *bytes.Buffer) error

	// Store takes the data of one write.
	Store func(ctx context.Context, obj any, data []byte) error

	// Seq allows content of any length, as in files of /proc.
	Seq bool

	// Size returns what stat shows for a Seq file, in bytes. It must not be
	// less than the length of the content, because sendfile(2) would end
	// there. It may only take locks that Show takes. If Size is nil, stat
	// shows 0 as in /proc, and sendfile finds nothing.
	Size func(obj any) int64
}

// A File is one attribute of one kobject. It is made when a caller looks for
// the file, and several Files may stand for the same file. The directory holds
// the state of its files. It has one definition and one number for each.
type File struct {
	dir   *Kobject
	index int // among the directory's files
	attr  *Attribute
}

// deactivated is added to a directory's active count when the directory is
// removed. The count is negative from then on, and equals deactivated once the
// files are drained.
const deactivated = math.MinInt64 / 2

// Name returns the last element of the path.
func (f *File) Name() string { return f.attr.Name }

// Path returns the path from the root.
func (f *File) Path() string { return join(f.dir, f.attr.Name) }

// Ino returns the inode number.
func (f *File) Ino() uint64 {
	if n := f.index - f.dir.fixed; n >= 0 {
		f.dir.tree.mu.Lock()
		defer f.dir.tree.mu.Unlock()
		return f.dir.added[n].ino
	}
	return f.dir.ino + 1 + uint64(f.index)
}

// Index returns the file's place among the files of its directory. The oldest
// file has index 0.
func (f *File) Index() int { return f.index }

// Position returns the file's place in listings of the directory, see Node.
func (f *File) Position() uint64 { return position(f.attr.Name) }

// Parent returns the directory that the file is or was in.
func (f *File) Parent() *Kobject { return f.dir }

// Removed reports whether the file has left the tree. It leaves with its
// directory.
func (f *File) Removed() bool { return f.dir.Removed() }

// Attr returns the definition.
func (f *File) Attr() *Attribute { return f.attr }

// Size returns the size that stat shows, in bytes. For a Seq file that is
// removed it is 0.
func (f *File) Size() int64 {
	switch {
	case !f.attr.Seq:
		return PageSize
	case f.attr.Size == nil || !f.get():
		return 0
	}
	defer f.put()
	return f.attr.Size(f.object())
}

// Show appends the file's content to w. If the file is not Seq, the content is
// cut at PageSize-1 bytes. Errors wrap ErrGone, ErrNoMethod, or the error of
// the attribute's Show.
func (f *File) Show(ctx context.Context, w *bytes.Buffer) error {
	if !f.get() {
		return fmt.Errorf("show %q: %w", f.Path(), ErrGone)
	}
	defer f.put()
	if f.attr.Show == nil {
		return fmt.Errorf("show %q: %w", f.Path(), ErrNoMethod)
	}
	defer f.dir.tree.enter(f)()
	defer lockdep.Callback(f.objects()...)()
	start := w.Len()
	if err := f.attr.Show(ctx, f.object(), w); err != nil {
		return fmt.Errorf("show %q: %w", f.Path(), err)
	}
	if !f.attr.Seq && w.Len()-start >= PageSize {
		w.Truncate(start + PageSize - 1)
	}
	return nil
}

// Store passes data, cut to PageSize bytes, to the attribute, and returns how
// many bytes that were. Errors wrap ErrGone, ErrNoMethod, or the error of the
// attribute's Store.
func (f *File) Store(ctx context.Context, data []byte) (int, error) {
	if !f.get() {
		return 0, fmt.Errorf("store %q: %w", f.Path(), ErrGone)
	}
	defer f.put()
	if f.attr.Store == nil {
		return 0, fmt.Errorf("store %q: %w", f.Path(), ErrNoMethod)
	}
	f.dir.stores.Add(1)
	defer f.dir.stores.Add(-1)
	defer f.dir.tree.enter(f)()
	defer lockdep.Callback(f.objects()...)()
	data = data[:min(len(data), PageSize)]
	if err := f.attr.Store(ctx, f.object(), data); err != nil {
		return 0, fmt.Errorf("store %q: %w", f.Path(), err)
	}
	return len(data), nil
}

// object returns the object that the program gave for the file.
//
// Preconditions: the caller has an active reference.
func (f *File) object() any {
	if f.index < f.dir.fixed {
		return f.dir.obj
	}
	f.dir.tree.mu.Lock()
	defer f.dir.tree.mu.Unlock()
	return f.dir.added[f.index-f.dir.fixed].obj
}

// objects returns the objects that the program gave for the file and for the
// directories that contain it. A drain of any of them would wait for the
// caller.
//
// Preconditions: the caller has an active reference, so that none of them is
// drained.
func (f *File) objects() []any {
	objs := []any{f.object()}
	for dir := f.dir; dir != nil; dir = dir.parent {
		if dir.obj != nil {
			objs = append(objs, dir.obj)
		}
	}
	return objs
}

// get takes an active reference. It reports false if the file is removed. The
// files of a directory are removed together and drained together, so they share
// one count.
func (f *File) get() bool {
	for {
		n := f.dir.active.Load()
		if n < 0 {
			return false
		}
		if f.dir.active.CompareAndSwap(n, n+1) {
			f.acquired()
			return true
		}
	}
}

// put releases an active reference, and wakes a drain that waits for it.
func (f *File) put() {
	f.released()
	if f.dir.active.Load() < 0 {
		f.checkDrain()
	}
	if f.dir.active.Add(-1) == deactivated {
		t := f.dir.tree
		t.mu.Lock()
		defer t.mu.Unlock()
		t.drained.Broadcast()
	}
}

// checkDrain counts an active reference that is still held after the drain.
func (f *File) checkDrain() {
	t := f.dir.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.dir.quiet {
		t.outlived.Add(1)
	}
}

// Meta returns mode, owner and times.
func (f *File) Meta() Meta {
	f.dir.tree.mu.Lock()
	defer f.dir.tree.mu.Unlock()
	return f.metaLocked()
}

// SetMeta lets change modify mode, owner and times. change runs under the
// tree's lock.
func (f *File) SetMeta(change func(*Meta)) {
	f.setMeta(change)
	f.dir.tree.tellChanged(f)
}

func (f *File) setMeta(change func(*Meta)) {
	f.dir.tree.mu.Lock()
	defer f.dir.tree.mu.Unlock()
	m := f.metaLocked()
	change(&m)
	if f.dir.metas == nil {
		f.dir.metas = make(map[int]Meta)
	}
	f.dir.metas[f.index] = m
}

// metaLocked is Meta without the lock.
//
// Preconditions: the tree's lock is held.
func (f *File) metaLocked() Meta {
	if m, ok := f.dir.metas[f.index]; ok {
		return m
	}
	born := f.dir.born
	if n := f.index - f.dir.fixed; n >= 0 {
		born = f.dir.added[n].born
	}
	return f.dir.tree.newMeta(f.attr.Mode, born)
}
