package alloc

import (
	"fmt"
	"unsafe"

	"slabfs/internal/pages"
)

// newSlab cuts a slab from fresh pages of a node that had nothing left, and
// returns one of its objects. The slab becomes the cpu slab, unless the CPU is
// offline or belongs to another node than the slab. Until the slab is linked,
// only its builder knows it.
//
// Preconditions: no lock is held.
func (k *core) newSlab(c *Cache, of *node) (unsafe.Pointer, error) {
	p, err := k.buildSlab(of)
	if err != nil {
		return nil, err
	}
	k.makeBarns()
	pc := k.lockCPU()
	if k.dying {
		pc.mu.Unlock()
		k.freeSlab(p) // without a grace period: no reader has seen it
		c.panicDead("Alloc")
	}
	k.openArea(pc)
	var discard slabList
	n := k.nodeOf(p)
	n.mu.Lock()
	pages.SetOwner(p, 1<<k.order, k.number)
	want := k.wanted(pc)
	if want > 1 { // so that later refills from this slab are whole, if there is room behind the barn
		want = min(want+k.objects%want, 2*k.batch())
	}
	objs := n.spare(want)
	got := k.take(p, objs)
	rest := int64(k.objects - got)
	n.slabs.Add(1)
	n.free.Add(rest)
	pc.count(AllocSlab, 1)
	switch {
	case rest == 0:
	case pc.off, pc.node != n: // the thread is on another node by now, or its node had no pages
		k.addPartial(n, p, &discard)
	default:
		for !k.mayKeep(pc) { // as in SLUB, the CPU gives up all its slabs at once
			pc.count(CPUPartialDrain, 1)
			for pc.slabs.n > 0 {
				k.moveToNode(pc, pc.slabs.head, &discard)
			}
		}
		k.keep(pc, p, (*slabList).pushFront)
		n.cpuFree.Add(rest)
	}
	var one [1]uintptr
	k.stock(n, pc, one[:], objs[:got], false, &discard)
	n.mu.Unlock()
	pc.mu.Unlock()
	k.discardSlabs(&discard)
	return pointer(one[0]), nil
}

// buildSlab returns a slab without an owner, with constructed objects.
//
// Preconditions: no lock is held, because the constructor is the user's.
func (k *core) buildSlab(of *node) (pages.Page, error) {
	if err := k.a.reserve(int64(slabBytes(k.order))); err != nil {
		return 0, err
	}
	p, err := pages.Alloc(k.order, of.at)
	if err == nil {
		if err = k.initSlab(p); err != nil {
			pages.Free(p, k.order)
		}
	}
	if err != nil {
		k.a.unreserve(int64(slabBytes(k.order)))
		return 0, fmt.Errorf("allocate a slab of %q: %w", k.name, err)
	}
	if k.ctor != nil {
		constructed := false
		defer func() {
			if !constructed { // it panicked
				k.freeSlab(p)
			}
		}()
		for i := range k.objects {
			k.ctor(unsafe.Add(pages.At(p), uintptr(i)*uintptr(k.size)))
		}
		constructed = true
	}
	return p, nil
}
