package alloc

import (
	"math/rand/v2"
	"unsafe"

	"slabfs/internal/pages"
	"slabfs/internal/rseq"
)

// allocSlow is Alloc on the lock engine, or after a sequence could not serve
// it.
func allocSlow(c *Cache) unsafe.Pointer {
	if c.dead.Load() {
		c.panicDead("Alloc")
	}
	k := c.core
	pc := k.lockCPU()
	if !k.seq && !k.dying {
		if obj := pc.area.Pop(); obj != nil {
			pc.mu.Unlock()
			return k.handOut(obj)
		}
	}
	return allocSlower(c, pc)
}

// allocSlower takes the steps of core.go from the CPU's sheaf to fresh pages.
// It is a function of its own because allocSlow is mostly all of Alloc on the
// lock engine.
//
// Preconditions: pc.mu is held; allocSlower releases it.
func allocSlower(c *Cache, pc *cpuState) unsafe.Pointer {
	k := c.core
	others := len(k.nodes) == 1 // the next refill looks at all other nodes, or there are none
	for again := true; ; {
		if k.dying {
			pc.mu.Unlock()
			c.panicDead("Alloc")
		}
		var obj unsafe.Pointer
		if pc.area.Level() > 0 { // this thread was not registered, or the kernel started its sequence over
			obj = k.pop(pc)
		}
		var discard slabList
		if obj == nil {
			var one [1]uintptr
			k.refill(pc, one[:], others, &discard)
			obj = pointer(one[0])
		}
		pc.mu.Unlock()
		k.discardSlabs(&discard)
		k.reportDamage()
		if obj != nil {
			return k.handOut(obj)
		}
		if !again {
			k.a.nils.Add(1)
			return nil
		}
		seen := k.a.newAttempt()
		if obj, err := k.newSlab(c, pc.node); err == nil {
			return k.handOut(obj)
		}
		if others {
			// Even if reclaim frees nothing, it may bring objects
			// of other CPUs here.
			again = k.a.reclaim(seen, k)
		}
		c.mustLive("Alloc")
		if others && !again && !k.active.Load() && k.freeObjects() == 0 {
			k.a.nils.Add(1)
			return nil
		}
		others = true
		pc = k.lockCPU()
	}
}

// refill fills dst for the CPU whose sheaf is empty. It takes objects from the
// CPU's node, or else from another node, as refillFromOthers does. It takes
// half a sheaf or a whole one, and moves what dst does not need to the sheaf.
// It returns how many objects dst got: 0 if no node has a free one.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) refill(pc *cpuState, dst []uintptr, others bool, discard *slabList) int {
	got := k.refillHere(pc, dst, discard)
	if got == 0 && len(k.nodes) > 1 {
		got = k.refillFromOthers(pc, dst, others, discard)
	}
	return got
}

// refillHere is refill from the CPU's node: from the barn, or else from the
// slabs that the CPU keeps, or else from the partial list.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) refillHere(pc *cpuState, dst []uintptr, discard *slabList) int {
	if n := pc.node; n.inBarn.Load() == 0 && n.free.Load() == 0 { // this is so before each new slab
		if k.sheafCap.Load() > 0 {
			pc.count(BarnGetFail, 1)
		}
		return 0
	}
	k.openArea(pc)
	want := k.wanted(pc)
	if want <= len(dst) {
		n, _ := k.takeObjects(pc, dst)
		pc.flow = toSheaf // otherwise sheaves of two or three objects would never get any
		pc.count(AllocSlowpath, n)
		return n
	}
	n := pc.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if objs := k.fromBarn(pc, want); len(objs) > 0 {
		return k.stock(n, pc, dst, objs, true, discard)
	}
	objs := n.spare(want)
	return k.stock(n, pc, dst, objs[:k.takeFromSlabs(pc, objs)], false, discard)
}

// stock moves objects from the barn or from slabs to dst, and the rest to the
// sheaf. It returns how many objects dst got.
//
// Preconditions: pc.mu and n.mu are held; the objects lie in slabs of n; the
// core is not dying.
func (k *core) stock(n *node, pc *cpuState, dst, objs []uintptr, fromBarn bool, discard *slabList) int {
	got := copy(dst, objs)
	pc.flow = toSheaf
	pc.count(AllocSlowpath, got)
	if rest := objs[got:]; len(rest) > 0 {
		kept := k.pushBulk(pc, rest)
		if !fromBarn {
			pc.count(SheafRefill, kept)
		}
		if kept < len(rest) { // another thread filled it, or this thread runs on another CPU by now
			k.damaged(k.putObjects(n, rest[kept:], pc, discard))
		}
	}
	return got
}

// wanted returns how many objects to take if one is needed: half a sheaf or a
// whole one. If this thread cannot put the others on the sheaf, for instance
// because the CPU is offline, it returns 1.
//
// Preconditions: pc.mu is held.
func (k *core) wanted(pc *cpuState) int {
	if pc.open.Load() && !pc.rests && !pc.off && (!k.seq || rseq.Registered()) {
		return k.batchFor(pc, toSheaf)
	}
	return 1
}

// takeObjects takes up to len(dst) objects from the barn, or else from slabs.
// It returns how many, and whether they came from the barn.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) takeObjects(pc *cpuState, dst []uintptr) (got int, fromBarn bool) {
	n := pc.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if got = copy(dst, k.fromBarn(pc, len(dst))); got > 0 {
		return got, true
	}
	return k.takeFromSlabs(pc, dst), false
}

// fromBarn takes up to want objects out of the barn. They stay in the barn's
// memory until node.mu is released.
//
// Preconditions: pc.mu and node.mu are held.
func (k *core) fromBarn(pc *cpuState, want int) []uintptr {
	if k.sheafCap.Load() == 0 {
		return nil
	}
	objs := pc.node.takeBarn(want)
	if len(objs) > 0 {
		pc.count(BarnGet, 1)
	} else {
		pc.count(BarnGetFail, 1)
	}
	return objs
}

// takeFromSlabs is takeObjects when the barn is empty.
//
// Preconditions: pc.mu and node.mu are held; the core is not dying.
func (k *core) takeFromSlabs(pc *cpuState, dst []uintptr) (got int) {
	n := pc.node
	if pc.off {
		return k.takeFromNode(n, dst)
	}
	if pc.slabs.n > 0 {
		pc.count(AllocRefill, 1)
	}
	for got < len(dst) {
		p := pc.slabs.head
		if p == 0 {
			if !k.keepPartial(pc) {
				break
			}
			continue
		}
		got += k.takeLinked(n, p, dst[got:])
		if k.freeIn(slabAt(p)) == 0 {
			k.unkeep(pc, p)
			pc.count(DeactivateBypass, 1)
			if pc.slabs.n > 0 {
				pc.count(CPUPartialAlloc, 1)
			}
		}
	}
	n.free.Add(-int64(got))
	n.cpuFree.Add(-int64(got))
	return got
}

// takeFromNode takes up to len(dst) objects from a node's partial list and
// returns how many. A CPU that keeps no slabs takes objects in this way.
//
// Preconditions: n.mu is held.
func (k *core) takeFromNode(n *node, dst []uintptr) (got int) {
	for got < len(dst) && n.partial.head != 0 {
		p := n.partial.head
		got += k.takeLinked(n, p, dst[got:])
		if k.freeIn(slabAt(p)) == 0 {
			n.removePartial(p)
		}
	}
	n.free.Add(-int64(got))
	return got
}

// takeLinked takes objects from a slab that is on a list of the node or of one
// of its CPUs.
//
// Preconditions: n.mu is held.
func (k *core) takeLinked(n *node, p pages.Page, dst []uintptr) int {
	if slabAt(p).inUse == 0 {
		n.empty--
	}
	return k.take(p, dst)
}

// refillFromOthers is refill from the partial list of the first other node that
// has free objects there. As in SLUB, this comes before a new slab, as often as
// remote_node_defrag_ratio says, and it takes from nodes that have more than
// min_partial partial slabs. If must is set, it always tries, and takes from
// any node. The slab stays on its node, and the objects go back there when they
// leave a sheaf.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) refillFromOthers(pc *cpuState, dst []uintptr, must bool, discard *slabList) (got int) {
	if !must && rand.Uint32N(100) >= k.defragRatio.Load() {
		return 0
	}
	for i := 1; i < len(k.nodes) && got == 0; i++ {
		n := k.nodes[(pc.node.at+i)%len(k.nodes)]
		if partials := n.partials.Load(); partials == 0 || !must && uint64(partials) <= k.minPartial.Load() {
			continue
		}
		k.openArea(pc)
		n.mu.Lock()
		objs := n.spare(k.wanted(pc))
		if objs = objs[:k.takeFromNode(n, objs)]; len(objs) > 0 {
			pc.count(AllocFromPartial, 1)
			got = k.stock(n, pc, dst, objs, false, discard)
		}
		n.mu.Unlock()
	}
	return got
}

// keepPartial moves slabs from the node's partial list to a CPU that keeps
// none: one to use now, and half of the cpu partial slabs that the CPU may
// keep. It reports whether the list had a slab.
//
// Preconditions: pc.mu and pc.node.mu are held.
func (k *core) keepPartial(pc *cpuState) bool {
	n := pc.node
	for pc.slabs.n == 0 || pc.slabs.n-1 < int(k.keepSlabs.Load())/2 {
		p := n.partial.head
		if p == 0 {
			break
		}
		n.removePartial(p)
		k.keep(pc, p, (*slabList).pushBack)
		n.cpuFree.Add(int64(k.freeIn(slabAt(p))))
	}
	if pc.slabs.n > 0 {
		pc.count(AllocFromPartial, 1)
		pc.count(CPUPartialNode, pc.slabs.n-1)
	}
	return pc.slabs.n > 0
}
