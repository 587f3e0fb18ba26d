package sysfs

import "slices"

// Remove takes the directory and everything below it out of the tree, waits
// until no Show and no Store of it runs, and tells the observers. Several
// goroutines may remove one kobject: each call returns after the drain.
//
// Preconditions: the caller holds no lock that a Show or a Store of the subtree
// takes. Remove panics if the caller is inside such a Show or Store, or if k is
// the root.
func (k *Kobject) Remove() {
	t := k.tree
	if k.parent == nil {
		panic("sysfs: Remove of the root")
	}
	t.refuseSelfWait(k)
	if k.removeAndDrain() {
		t.tell(Removal{k.parent, k})
	}
}

// removeAndDrain is Remove without the observers. It reports whether this call
// took the directory out.
func (k *Kobject) removeAndDrain() bool {
	t := k.tree
	t.mu.Lock()
	first := !k.gone
	if first {
		k.draining = k.takeOut()
	}
	dirs := k.draining
	t.mu.Unlock()
	drains(dirs)
	t.mu.Lock()
	defer t.mu.Unlock()
	if first {
		k.drain(dirs)
		k.draining = nil
	}
	for !k.quiet {
		t.drained.Wait()
	}
	return first
}

// takeOut ends lookups of k and calls of its files. It returns the directories
// to drain.
//
// Preconditions: k.tree.mu is held; k is not gone.
func (k *Kobject) takeOut() []*Kobject {
	k.parent.drop(k)
	k.parent.leaving++
	k.tree.drains.Add(1)
	return k.deactivate(nil)
}

// drain waits until none of the directories that takeOut returned is in use.
//
// Preconditions: k.tree.mu is held.
func (k *Kobject) drain(dirs []*Kobject) {
	t := k.tree
	if !t.noDrain && slices.ContainsFunc(dirs, (*Kobject).busy) {
		t.waited.Add(1)
		for slices.ContainsFunc(dirs, (*Kobject).busy) {
			t.drained.Wait() // releases the lock
		}
	}
	for _, d := range dirs {
		d.quiet = true
		if !t.noDrain {
			d.obj = nil
			for i := range d.added {
				d.added[i].obj = nil
			}
		}
	}
	k.parent.leaving--
	t.drained.Broadcast()
}

// deactivate marks the subtree as gone, so that no call of it can begin. It
// appends the subtree's directories to dirs.
//
// Preconditions: k.tree.mu is held; k is not gone.
func (k *Kobject) deactivate(dirs []*Kobject) []*Kobject {
	dirs = append(dirs, k)
	k.gone = true
	k.tree.storesAtDrain.Add(uint64(k.stores.Load()))
	k.active.Add(deactivated)
	for _, c := range k.children {
		switch c := c.(type) {
		case *Kobject:
			dirs = c.deactivate(dirs)
		case *Link:
			c.gone = true
		}
	}
	k.children, k.dirs, k.shared = nil, 0, nil
	return dirs
}

// busy reports whether a drain has to wait for k.
//
// Preconditions: the tree's lock is held; k is deactivated.
func (k *Kobject) busy() bool { return k.active.Load() != deactivated || k.leaving > 0 }
