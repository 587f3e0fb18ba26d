package sysfs

import "slabfs/internal/fault"

func init() { fault.Forget = func(kobject any) func() { return kobject.(*Kobject).forget() } }

// forget is Remove in two halves, for fault.NotifyUnderLocks. It takes the
// directory out of the tree and tells the observers, before the drain. The
// returned function drains.
func (k *Kobject) forget() (drain func()) {
	t := k.tree
	t.mu.Lock()
	dirs := k.takeOut()
	t.mu.Unlock()
	t.tell(Removal{k.parent, k})
	return func() {
		drains(dirs)
		t.mu.Lock()
		defer t.mu.Unlock()
		k.drain(dirs)
	}
}
