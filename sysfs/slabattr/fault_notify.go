//go:build fault_notify_under_locks

package slabattr

import (
	"slabfs/alloc"
	"slabfs/sysfs"
)

// Forget makes the kernel forget the cache's directory. The function that it
// returns waits until none of the files is in use.
func (p publisher) Forget(_ *alloc.Cache, name string) (drain func()) {
	if dir, ok := p.t.slab.Child(name).(*sysfs.Kobject); ok {
		return dir.Forget()
	}
	return func() {}
}
