package sysfs

import "slabfs/internal/lockdep"

// What lockdep is told: an active reference is a lock that is held, shared, by
// who is in a Show or a Store, and wanted exclusively by who drains. It has one class
// for each attribute definition, as in Linux. Nobody waits to get one.

type activeKey struct{ attr *Attribute }

func (f *File) class() *lockdep.Class {
	return lockdep.ClassFor(activeKey{f.attr}, func() string { return "kn->active#" + f.attr.Name })
}

func (f *File) acquired() {
	if lockdep.Enabled() {
		lockdep.Acquire(f.class(), f, lockdep.Shared|lockdep.Try)
	}
}

func (f *File) released() {
	if lockdep.Enabled() {
		lockdep.Release(f.class(), f)
	}
}

// drains tells of a drain of the nodes that is about to begin, whether or not it
// will have to wait.
//
// Preconditions: the tree's lock is not held.
func drains(nodes []Node) {
	if !lockdep.Enabled() {
		return
	}
	for _, n := range nodes {
		if f, ok := n.(*File); ok {
			lockdep.Wait(f.class(), f)
		}
	}
}
