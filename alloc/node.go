package alloc

import (
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

// barnSheaves is how many half sheaves of free objects a node's barn keeps.
// Linux 6.18 keeps as many whole ones (MAX_FULL_SHEAVES).
const barnSheaves = 10

// A node is what a memory node keeps of a cache: its partial list and its barn,
// with only its own slabs and their objects in them. One list_lock is held at a
// time.
//
// For every slab:
//
//	in use == live + on sheaves + in the barn
//	in use + free == objects
//
// Protection of fields:
//
//	I  set before the core is published, then constant
//	L  mu
//	A  atomic; written under mu, read at any time and then only as a hint
type node struct {
	at      int // I: place in the core's nodes
	mu      lockdep.Spin
	partial slabList  // L: slabs with free objects that no CPU keeps; the first is used first
	barn    []uintptr // L: free objects from sheaves; nil before the core's first slab
	wait    graceWait // L: dropped slabs that wait for a grace period
	empty   int       // L: slabs whose objects are all free in the slab

	slabs    gauge // A: all slabs
	partials gauge // A: partial.n
	free     gauge // A: objects free in slabs
	cpuFree  gauge // A: the part of free that is in slabs that CPUs keep
	inBarn   gauge // A: len(barn)

	_ [64]byte // the next one belongs to another node
}

// addPartial puts a slab that is on no list on the partial list. If the slab is
// empty and the node keeps enough slabs, it drops the slab instead. It reports
// whether the slab is kept.
//
// Preconditions: n.mu is held.
func (k *core) addPartial(n *node, p pages.Page, discard *slabList) (kept bool) {
	s := slabAt(p)
	if s.inUse == 0 && uint64(n.partial.n) >= k.minPartial.Load() {
		k.drop(n, p, discard)
		return false
	}
	s.where = onNode
	n.partial.pushBack(p)
	n.partials.Store(int64(n.partial.n))
	return true
}

// removePartial takes a slab off the partial list.
//
// Preconditions: n.mu is held.
func (n *node) removePartial(p pages.Page) {
	n.partial.remove(p)
	n.partials.Store(int64(n.partial.n))
	slabAt(p).where = onNone
}

// drop stops counting an empty slab that is on no list. It puts the slab on
// discard, or lets it wait for a grace period. From here on the slab's objects
// belong to no cache.
//
// Preconditions: n.mu is held.
func (k *core) drop(n *node, p pages.Page, discard *slabList) {
	pages.SetOwner(p, 1<<k.order, 0)
	n.empty--
	n.slabs.Add(-1)
	n.free.Add(-int64(k.objects))
	if k.typesafe() {
		k.freeLater(n, p)
		return
	}
	discard.pushBack(p)
}

// putObjects makes objects of the node's slabs free in their slabs. Objects of
// one slab that follow each other cost little more than one object.
//
// pc, if not nil, is a CPU whose lock is held. If it belongs to the node, it
// may keep slabs that had no free object. Empty slabs beyond min_partial go to
// discard.
//
// putObjects returns how many objects could not be put, because they were free
// already or because no object begins at their address. These are mistakes of
// users. The page of an object that is free already may have another user by
// now.
//
// Preconditions: n.mu is held.
func (k *core) putObjects(n *node, objs []uintptr, pc *cpuState, discard *slabList) (bad int) {
	free, cpuFree := 0, 0
	frozen := 0
	for len(objs) > 0 {
		p := k.slabOf(pointer(objs[0]))
		here, put := 1, 0
		switch {
		case pages.Owner(p) != k.number:
		case len(objs) > 1 && k.slabOf(pointer(objs[1])) == p:
			here, put = k.put(p, objs)
		default:
			put = k.putOne(p, objs[0])
		}
		bad += here - put
		objs = objs[here:]
		if put == 0 {
			continue
		}
		free += put
		s := slabAt(p)
		if s.inUse == 0 {
			n.empty++
		}
		switch s.where {
		case onCPU:
			cpuFree += put
			frozen += put
		case onNone:
			if pc != nil && pc.node == n && k.mayKeep(pc) {
				k.keep(pc, p, (*slabList).pushBack)
				cpuFree += put
				pc.count(CPUPartialFree, 1)
			} else {
				n.free.Add(int64(free)) // drop counts the slab's objects as free
				free = 0
				if k.addPartial(n, p, discard) {
					k.count(pc, FreeAddPartial, 1)
				}
			}
		case onNode:
			if s.inUse == 0 && uint64(n.partial.n) > k.minPartial.Load() {
				n.free.Add(int64(free))
				free = 0
				n.removePartial(p)
				k.drop(n, p, discard)
				k.count(pc, FreeRemovePartial, 1)
			}
		}
	}
	k.count(pc, FreeFrozen, frozen)
	n.free.Add(int64(free))
	n.cpuFree.Add(int64(cpuFree))
	return bad
}

// makeBarns allocates the nodes' barns, before the core has an object. A cache
// that nobody uses has no barns, which are most of the memory of a cache.
//
// Preconditions: no lock of rank list_lock or below is held.
func (k *core) makeBarns() {
	if k.barns.Load() {
		return
	}
	for _, n := range k.nodes {
		room := make([]uintptr, 0, k.barnRoom())
		n.mu.Lock()
		if n.barn == nil {
			n.barn = room
		}
		n.mu.Unlock()
	}
	k.barns.Store(true)
}

// spare returns room behind the barn's content for objects on their way, two
// batches at most. It can be used until n.mu is released.
//
// Preconditions: n.mu is held.
func (n *node) spare(objs int) []uintptr { return n.barn[len(n.barn):][:objs] }

// takeBarn takes up to want objects out of the barn and returns them. They stay
// in its memory until n.mu is released.
//
// Preconditions: n.mu is held.
func (n *node) takeBarn(want int) []uintptr {
	at := len(n.barn) - min(want, len(n.barn))
	objs := n.barn[at:]
	n.barn = n.barn[:at]
	n.inBarn.Store(int64(at))
	return objs
}

// putBarn puts the first of objs into the barn, as many as it has room for, and
// returns how many.
//
// Preconditions: n.mu is held.
func (k *core) putBarn(n *node, objs []uintptr) int {
	kept := max(min(len(objs), barnSheaves*k.batch()-len(n.barn)), 0)
	n.barn = append(n.barn, objs[:kept]...)
	n.inBarn.Store(int64(len(n.barn)))
	return kept
}

// gather moves the objects that lie in a node's slabs to the front of objs, and
// returns how many they are.
func (k *core) gather(n *node, objs []uintptr) (here int) {
	if len(k.nodes) == 1 {
		return len(objs)
	}
	for i, obj := range objs {
		if k.nodeOf(k.slabOf(pointer(obj))) == n {
			objs[i], objs[here] = objs[here], obj
			here++
		}
	}
	return here
}

// discardSlabs frees the pages of slabs that drop put on discard.
//
// Preconditions: no lock of rank list_lock or below is held.
func (k *core) discardSlabs(discard *slabList) {
	if discard.n == 0 {
		return
	}
	k.count(nil, FreeSlab, discard.n)
	for p := discard.popFront(); p != 0; p = discard.popFront() {
		k.freeSlab(p)
	}
	k.a.pagesFreed()
}

// freeSlab frees the pages of a slab that has no owner.
func (k *core) freeSlab(p pages.Page) {
	k.exitSlab(p)
	pages.Free(p, k.order)
	k.a.unreserve(int64(slabBytes(k.order)))
}
