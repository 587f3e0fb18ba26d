package fusefs

import (
	"reflect"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// This file tells lockdep about the kernel's locks. Until we answer, a client
// in write(2) holds the lock of the file's inode, and a client in lookup or
// getdents holds the lock of the directory's inode. A notification takes the
// directory's lock exclusively. There is one class for each attribute
// definition, and one for each type of object that a directory stands for.

type (
	inodeKey struct{ attr *sysfs.Attribute }
	dirKey   struct{ object reflect.Type }
)

func inodeClass(n sysfs.Node) *lockdep.Class {
	switch n := n.(type) {
	case *sysfs.File:
		return lockdep.ClassFor(inodeKey{n.Attr()}, func() string { return "i_mutex_key#" + n.Name() })
	case *sysfs.Kobject:
		object := reflect.TypeOf(n.Object())
		return lockdep.ClassFor(dirKey{object}, func() string {
			if object == nil {
				return "i_mutex_dir_key"
			}
			return "i_mutex_dir_key#" + object.String()
		})
	}
	return nil
}

// inodeLocked tells lockdep that a client holds the lock of n's inode until
// unlocked is called. That is when the client gets the answer.
func inodeLocked(n sysfs.Node, how lockdep.Mode) (unlocked func()) {
	if !lockdep.Enabled() || n == nil {
		return nothing
	}
	c := inodeClass(n)
	lockdep.Acquire(c, n, how)
	return func() { lockdep.Release(c, n) }
}

func nothing() {}
