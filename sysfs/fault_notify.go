//go:build fault_notify_under_locks

package sysfs

// Forget is Remove in two halves: it takes the directory out of the tree and
// tells the observers, before the drain. The function that it returns drains.
func (k *Kobject) Forget() (drain func()) {
	t := k.tree
	t.mu.Lock()
	nodes := k.takeOut()
	t.mu.Unlock()
	t.tell(Removal{k.parent, k})
	return func() {
		drains(nodes)
		t.mu.Lock()
		defer t.mu.Unlock()
		k.drain(nodes)
	}
}
