package sysfs

import "slabfs/internal/lockdep"

// This file tells lockdep about active references. A Show or a Store holds its
// file's active reference shared, and a drain acquires it exclusively. There is
// one class for each attribute definition, as in Linux. Getting an active
// reference never waits.

type activeKey struct{ attr *Attribute }

func activeClass(a *Attribute) *lockdep.Class {
	return lockdep.ClassFor(activeKey{a}, func() string { return "kn->active#" + a.Name })
}

func (f *File) acquired() {
	if lockdep.Enabled() {
		lockdep.Acquire(activeClass(f.attr), f, lockdep.Shared|lockdep.Try)
	}
}

func (f *File) released() {
	if lockdep.Enabled() {
		lockdep.Release(activeClass(f.attr), f)
	}
}

// drains tells lockdep that a drain of the directories' files is about to
// begin, whether or not it will have to wait.
//
// Preconditions: the tree's lock is not held; the directories are deactivated.
func drains(dirs []*Kobject) {
	if !lockdep.Enabled() {
		return
	}
	for _, d := range dirs {
		for i := range d.Files() {
			f := d.File(i)
			lockdep.Wait(activeClass(f.attr), f)
		}
	}
}
