package sysfs

import "slabfs/internal/lockdep"

// What lockdep is told: an active reference is a lock that is held, shared, by
// who is in a Show or a Store, and wanted exclusively by who drains. It has one class
// for each attribute definition, as in Linux. Nobody waits to get one.

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

// drains tells of a drain of the directories' files that is about to begin,
// whether or not it will have to wait.
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
