package alloc

import "slabfs/internal/pages"

// A graceWait is a node's empty slabs of a typesafe-by-RCU core that wait for a
// grace period. Slabs that were dropped before that grace period begins share a
// callback. The callback frees them, and queues the next callback for slabs
// that came too late.
//
// At the memory limit, the core takes waiting slabs back. Readers still find
// only objects of this core in them. A slab that is dropped again waits like a
// new one, and not for the callback that it had before.
//
// Protection of fields: node.mu.
type graceWait struct {
	called *slabList // slabs that the queued callback will free; nil if none is queued
	begun  uint64    // grace periods that had begun before the callback was queued
	late   slabList  // slabs without a callback
}

// freeLater makes a dropped slab wait for a grace period. Until then readers
// may look at its objects, and free objects keep the content that they were
// freed with.
//
// Preconditions: n.mu is held.
func (k *core) freeLater(n *node, p pages.Page) {
	k.count(nil, FreeSlab, 1)
	k.a.waiting.Add(int64(slabBytes(k.order)))
	w := &n.wait
	if w.called != nil && w.begun == k.a.rcu.Begun() {
		w.called.pushBack(p)
		return
	}
	w.late.pushBack(p)
	if w.called == nil {
		k.callLate(n)
	}
}

// callLate queues a callback for the slabs that have none.
//
// Preconditions: n.mu is held.
func (k *core) callLate(n *node) {
	w := &n.wait
	if w.late.n == 0 {
		return
	}
	slabs := w.late
	w.called, w.begun, w.late = &slabs, k.a.rcu.Begun(), slabList{}
	k.a.rcu.Call(func() { k.graceEnded(n, &slabs) })
}

// graceEnded is the callback. It frees the slabs that were not taken back.
func (k *core) graceEnded(n *node, slabs *slabList) {
	k.root.CheckReleased()
	a := k.a
	n.mu.Lock()
	if n.wait.called == slabs { // otherwise discardAll has queued another callback
		n.wait.called = nil
		k.callLate(n)
	}
	n.mu.Unlock()
	for p := slabs.popFront(); p != 0; p = slabs.popFront() {
		k.freeSlab(p)
		a.waiting.Add(-int64(slabBytes(k.order)))
		a.returned.Add(1)
	}
	a.pagesFreed()
}

// takeWaiting takes a waiting slab back: it puts the slab on the partial list
// of its node. It prefers the node of the current CPU. It reports whether a
// slab was waiting.
//
// Preconditions: no lock below flush_lock is held.
func (k *core) takeWaiting() bool {
	pc := k.lockCPU()
	defer pc.mu.Unlock()
	if k.dying {
		return false
	}
	k.openArea(pc)
	for i := range k.nodes {
		if k.takeWaitingOf(k.nodes[(pc.node.at+i)%len(k.nodes)], pc) {
			return true
		}
	}
	return false
}

// takeWaitingOf is takeWaiting from one node.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) takeWaitingOf(n *node, pc *cpuState) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.wait.late.popFront()
	if p == 0 && n.wait.called != nil {
		p = n.wait.called.popFront()
	}
	if p == 0 {
		return false
	}
	k.a.waiting.Add(-int64(slabBytes(k.order)))
	pages.SetOwner(p, 1<<k.order, k.number)
	n.empty++
	n.slabs.Add(1)
	n.free.Add(int64(k.objects))
	pc.count(AllocSlab, 1)
	slabAt(p).where = onNode
	n.partial.pushBack(p)
	n.partials.Store(int64(n.partial.n))
	return true
}
