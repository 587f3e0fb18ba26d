package alloc

import (
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

// barnSheaves is how many sheaves of free objects a node's barn keeps (Linux 6.18: MAX_FULL_SHEAVES).
const barnSheaves = 10

// A node is what a memory node keeps of a cache: its partial list and its barn, with
// nothing in them but its own slabs and their objects. One list_lock is held at a time.
//
// For every slab: in use == live + on sheaves + in the barn, and in use + free == objects.
//
// Protection of fields:
//
//	I  set before the core is published, then constant
//	L  mu
//	A  atomic; written under mu, read at any time and then only as a hint
type node struct {
	at      int // I: place in the core's nodes
	mu      lockdep.Spin
	partial slabList  // L: slabs with free objects that no CPU keeps, those to fill first in front
	barn    []uintptr // L: free objects, of sheaves; nil before the core's first slab
	wait    graceWait // L: slabs that are not counted any more
	empty   int       // L: slabs whose objects are all free in them

	slabs    gauge // A: all slabs
	partials gauge // A: partial.n
	free     gauge // A: objects free in slabs
	cpuFree  gauge // A: those of them in slabs that CPUs keep
	inBarn   gauge // A: len(barn)

	_ [64]byte // the next one belongs to another node
}

// addPartial puts a slab that is on no list on the partial list, or, if it is
// empty and enough slabs are kept, on the list of slabs to discard. It reports
// whether it is kept.
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

// drop counts an empty slab that is on no list as gone and puts it on the list
// of slabs to discard, or has it wait for a grace period. From here on its objects
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

// putObjects makes objects of the node's slabs free there; those of one slab that follow each
// other cost little more than one. pc, if not nil, is a CPU whose lock is held
// and which, if it is the node's, may keep slabs that had none free; empty slabs beyond min_partial go
// to discard. It returns how many objects could not be put because they are free
// already or no objects at all: user errors. The page of one that is free already
// may be another user's by now.
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

// makeBarns gives the nodes room for barns. It is called before the core has an
// object: a cache that nobody uses has none, and they are most of what a cache takes.
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

// spare returns room behind the barn for objects that are under way until n.mu is
// released, two batches at most.
//
// Preconditions: n.mu is held.
func (n *node) spare(objs int) []uintptr { return n.barn[len(n.barn):][:objs] }

// takeBarn returns up to want objects that were in the barn, and lie there until n.mu is released.
//
// Preconditions: n.mu is held.
func (n *node) takeBarn(want int) []uintptr {
	at := len(n.barn) - min(want, len(n.barn))
	objs := n.barn[at:]
	n.barn = n.barn[:at]
	n.inBarn.Store(int64(at))
	return objs
}

// putBarn keeps the first of some objects, as many as there is room for, and returns how many.
//
// Preconditions: n.mu is held.
func (k *core) putBarn(n *node, objs []uintptr) int {
	kept := max(min(len(objs), barnSheaves*k.batch()-len(n.barn)), 0)
	n.barn = append(n.barn, objs[:kept]...)
	n.inBarn.Store(int64(len(n.barn)))
	return kept
}

// gather moves those of objs that lie in a node's slabs to the front and returns how many.
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

// discardSlabs gives the pages of slabs that are counted as gone back.
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

// freeSlab gives back the pages of a slab that has no owner.
func (k *core) freeSlab(p pages.Page) {
	k.exitSlab(p)
	pages.Free(p, k.order)
	k.a.unreserve(int64(slabBytes(k.order)))
}
