package slabattr

import (
	"slabfs/alloc"
	"slabfs/internal/fault"
	"slabfs/sysfs"
)

// Forget makes the kernel forget the cache's directory, for
// fault.NotifyUnderLocks. The returned function waits until none of the files
// is in use.
func (p publisher) Forget(_ *alloc.Cache, name string) (drain func()) {
	switch n := p.t.slab.Child(name).(type) {
	case *sysfs.Kobject:
		return fault.Forget(n)
	case *sysfs.Link:
		n.Remove()
	}
	return func() {}
}
