package sysfs

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math"
	"sync/atomic"

	"slabfs/internal/lockdep"
)

// PageSize is the size that stat shows for a file that is not Seq, the most
// that one Store gets, and one more than what one Show can give, as in Linux.
const PageSize = 4096

// An Attribute defines a file. One definition serves all kobjects that have
// such a file, and must not be changed once it is in use.
//
// Show and Store may run several times at once, for one file too. Their context
// ends when the caller is interrupted or killed: they may wait on it before they
// change anything, and then return its error. They must keep neither the
// context nor the data. They may remove kobjects, except one that their own
// file is in.
type Attribute struct {
	Name  string
	Mode  fs.FileMode                                               // permission bits; a read bit needs Show, a write bit needs Store
	Show  func(ctx context.Context, obj any, w *bytes.Buffer) error // writes the content
	Store func(ctx context.Context, obj any, data []byte) error     // takes what one write brought
	Seq   bool                                                      // like a file of /proc: size 0, content of any length
}

// A File is one attribute of one kobject.
type File struct {
	node
	attr   *Attribute   // I
	active atomic.Int64 // A: calls under way, plus deactivated
	stores atomic.Int64 // A: Stores under way
}

// deactivated is added to a file's active count when it is removed: the count
// is negative from then on, and equal to deactivated once the file is drained.
const deactivated = math.MinInt64 / 2

// Attr returns the definition.
func (f *File) Attr() *Attribute { return f.attr }

// Size returns what stat shows.
func (f *File) Size() int64 {
	if f.attr.Seq {
		return 0
	}
	return PageSize
}

// Show appends the file's content to w. The content of a file that is not Seq
// ends at PageSize-1 bytes.
func (f *File) Show(ctx context.Context, w *bytes.Buffer) error {
	if !f.get() {
		return fmt.Errorf("show %q: %w", f.Path(), ErrGone)
	}
	defer f.put()
	if f.attr.Show == nil {
		return fmt.Errorf("show %q: %w", f.Path(), ErrNoMethod)
	}
	defer f.tree.enter(f)()
	defer lockdep.Callback(f.objects()...)()
	start := w.Len()
	if err := f.attr.Show(ctx, f.obj, w); err != nil {
		return fmt.Errorf("show %q: %w", f.Path(), err)
	}
	if !f.attr.Seq && w.Len()-start >= PageSize {
		w.Truncate(start + PageSize - 1)
	}
	return nil
}

// Store hands data, cut to PageSize bytes, to the attribute, and returns how
// many bytes that were.
func (f *File) Store(ctx context.Context, data []byte) (int, error) {
	if !f.get() {
		return 0, fmt.Errorf("store %q: %w", f.Path(), ErrGone)
	}
	defer f.put()
	if f.attr.Store == nil {
		return 0, fmt.Errorf("store %q: %w", f.Path(), ErrNoMethod)
	}
	f.stores.Add(1)
	defer f.stores.Add(-1)
	defer f.tree.enter(f)()
	defer lockdep.Callback(f.objects()...)()
	data = data[:min(len(data), PageSize)]
	if err := f.attr.Store(ctx, f.obj, data); err != nil {
		return 0, fmt.Errorf("store %q: %w", f.Path(), err)
	}
	return len(data), nil
}

// objects returns what the program gave for the file and for the directories that it
// is in: a drain of any of them would wait for the caller.
//
// Preconditions: the caller has an active reference, so that none of them is drained.
func (f *File) objects() []any {
	objs := []any{f.obj}
	for dir := f.parent; dir != nil; dir = dir.parent {
		if dir.obj != nil {
			objs = append(objs, dir.obj)
		}
	}
	return objs
}

// get takes an active reference, unless the file is removed.
func (f *File) get() bool {
	for {
		n := f.active.Load()
		if n < 0 {
			return false
		}
		if f.active.CompareAndSwap(n, n+1) {
			f.acquired()
			return true
		}
	}
}

// put returns an active reference and wakes a drain that waited for it.
func (f *File) put() {
	f.released()
	if f.active.Load() < 0 {
		f.checkDrain()
	}
	if f.active.Add(-1) == deactivated {
		f.tree.mu.Lock()
		defer f.tree.mu.Unlock()
		f.tree.drained.Broadcast()
	}
}

// checkDrain counts an active reference that is held after the drain.
func (f *File) checkDrain() {
	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	if f.quiet {
		f.tree.outlived.Add(1)
	}
}
