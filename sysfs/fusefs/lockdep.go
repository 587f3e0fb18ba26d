package fusefs

import (
	"reflect"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// What lockdep is told of the kernel's locks. While a client is in write(2) it
// holds the lock of the file's inode, and in lookup and getdents that of the
// directory's, until we answer; a notification takes the directory's exclusively. They have
// one class for each attribute definition, and one for each type of object that
// a directory stands for.

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

// inodeLocked says that a client holds the lock of n's inode until it gets the
// answer, which is when the function that it returns is called.
func inodeLocked(n sysfs.Node, how lockdep.Mode) (unlocked func()) {
	if !lockdep.Enabled() || n == nil {
		return nothing
	}
	c := inodeClass(n)
	lockdep.Acquire(c, n, how)
	return func() { lockdep.Release(c, n) }
}

func nothing() {}
