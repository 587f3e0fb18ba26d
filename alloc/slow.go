package alloc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
	"slabfs/internal/rseq"
)

// allocSlow is Alloc without a sequence: on the lock engine, or where one failed.
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

// allocSlower climbs from the CPU's sheaf to fresh pages; see doc.go. It is apart
// from allocSlow, which is the whole of Alloc on the lock engine mostly.
//
// Preconditions: pc.mu is held; it is not any more afterwards.
func allocSlower(c *Cache, pc *cpuState) unsafe.Pointer {
	k := c.core
	others := len(k.nodes) == 1 // what other nodes have has been looked at, or is now
	for again := true; ; {
		if k.dying {
			pc.mu.Unlock()
			c.panicDead("Alloc")
		}
		var obj unsafe.Pointer
		if pc.area.Level() > 0 { // this thread was new, or its sequence was started over
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
			again = k.a.reclaim(seen, k) // if not, its flush may have brought what other CPUs had
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

// refill fills dst for the CPU whose sheaf is empty, and puts on the sheaf what is left
// of half a sheaf, or of a whole one, then: from the CPU's node, else from another one as refillFromOthers does. It
// returns how many objects dst has, 0 if none of them has a free one.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) refill(pc *cpuState, dst []uintptr, others bool, discard *slabList) int {
	got := k.refillHere(pc, dst, discard)
	if got == 0 && len(k.nodes) > 1 {
		got = k.refillFromOthers(pc, dst, others, discard)
	}
	return got
}

// refillHere is refill from the CPU's node: from the barn, else from the slabs that the CPU keeps, else from
// the node's.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) refillHere(pc *cpuState, dst []uintptr, discard *slabList) int {
	if n := pc.node; n.inBarn.Load() == 0 && n.free.Load() == 0 { // as before each new slab
		if k.sheafCap.Load() > 0 {
			pc.count(BarnGetFail, 1)
		}
		return 0
	}
	k.openArea(pc)
	want := k.wanted(pc)
	if want <= len(dst) {
		n, _ := k.takeObjects(pc, dst)
		pc.flow = toSheaf // or sheaves of two or three would never get any
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

// stock moves objects that come from the barn or from slabs to dst, and those that are
// left to the sheaf. It returns how many dst has.
//
// Preconditions: pc.mu and n.mu are held; the objects lie in slabs of n; the core is not dying.
func (k *core) stock(n *node, pc *cpuState, dst, objs []uintptr, fromBarn bool, discard *slabList) int {
	got := copy(dst, objs)
	pc.flow = toSheaf
	pc.count(AllocSlowpath, got)
	if rest := objs[got:]; len(rest) > 0 {
		kept := k.pushBulk(pc, rest)
		if !fromBarn {
			pc.count(SheafRefill, kept)
		}
		if kept < len(rest) { // somebody else filled it, or the thread runs on another CPU by now
			k.damaged(k.putObjects(n, rest[kept:], pc, discard))
		}
	}
	return got
}

// wanted returns how many objects to take where one is needed: half a sheaf or a whole one, if
// this thread can put the others there, which it cannot while the CPU is offline.
//
// Preconditions: pc.mu is held.
func (k *core) wanted(pc *cpuState) int {
	if pc.open.Load() && !pc.rests && !pc.off && (!k.seq || rseq.Registered()) {
		return k.batchFor(pc, toSheaf)
	}
	return 1
}

// takeObjects takes up to len(dst) objects from behind the sheaves and returns
// how many, and whether it was the barn that had them.
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

// fromBarn takes up to want objects out of the barn. They lie there until node.mu is released.
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

// takeFromNode takes up to len(dst) objects from a node's partial list and returns
// how many: what a CPU does that keeps no slabs.
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

// takeLinked takes objects from a slab on a list of the node or of one of its CPUs.
//
// Preconditions: n.mu is held.
func (k *core) takeLinked(n *node, p pages.Page, dst []uintptr) int {
	if slabAt(p).inUse == 0 {
		n.empty--
	}
	return k.take(p, dst)
}

// refillFromOthers is refill from the partial list of the first of the other nodes that has something
// there. As in SLUB that is done before a new slab is made, so often as remote_node_defrag_ratio says,
// and from nodes that have more than min_partial partial slabs; or always, from any, if must is set.
// The objects come home when they leave a sheaf, and the slab stays where it is.
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

// keepPartial moves slabs from the node's partial list to a CPU that has none:
// one to use now, and half as many more as the CPU may keep. It reports whether there was one.
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

// newSlab cuts a slab from fresh pages, of a node that had nothing left, which becomes the cpu slab here
// unless the CPU is offline or by now another node's, and returns one of its objects. Until it is linked
// it is the builder's alone.
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
		k.freeSlab(p) // at once: no reader has seen it
		c.panicDead("Alloc")
	}
	k.openArea(pc)
	var discard slabList
	n := k.nodeOf(p)
	n.mu.Lock()
	pages.SetOwner(p, 1<<k.order, k.number)
	want := k.wanted(pc)
	if want > 1 { // so that the other refills from here are whole ones, if there is room behind the barn
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
	case pc.off, pc.node != n: // the thread runs elsewhere by now, or its node had no pages
		k.addPartial(n, p, &discard)
	default:
		for !k.mayKeep(pc) { // as in SLUB, all that the CPU kept goes at once
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

// buildSlab returns a slab without an owner, its objects constructed.
//
// Preconditions: no lock is held: the constructor is the user's.
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

// freeSlow pushes an object on the CPU's sheaf, or makes room in it.
func freeSlow(c *Cache, obj unsafe.Pointer) {
	k := c.core
	k.mustOwn(c, obj)
	if invariants.Enabled {
		k.takeBack(c, obj)
	}
	pc := k.lockCPU()
	if !k.seq && !k.dying && pc.area.Push(obj) {
		pc.mu.Unlock()
		return
	}
	freeSlower(c, pc, obj)
}

// freeSlower frees an object for which the CPU's sheaf has no room, or that a
// sequence could not push.
//
// Preconditions: pc.mu is held; it is not any more afterwards.
func freeSlower(c *Cache, pc *cpuState, obj unsafe.Pointer) {
	k := c.core
	if k.dying {
		pc.mu.Unlock()
		c.panicDead("Free")
	}
	if !pc.off && pc.area.Level() < int(k.sheafCap.Load()) && k.push(pc, obj) {
		pc.mu.Unlock()
		return
	}
	var discard slabList
	one := [1]uintptr{uintptr(obj)} // pushed in bulk, so that it is no free_fastpath
	others, own := k.makeRoom(pc, one[:], &discard)
	pc.count(FreeSlowpath, 1-own)
	pc.mu.Unlock()
	k.discardSlabs(&discard)
	k.damaged(others)
	k.reportDamage()
	if own > 0 {
		c.panicNotTaken([]unsafe.Pointer{obj}, own)
	}
}

// makeRoom keeps objects for which the sheaf has no room. They go to the barn, or to slabs if
// the barn is full, in half sheaves or whole ones, for the last of which the sheaf gives what is missing.
// Where the sheaf cannot be used they go to their slabs. It returns how many
// objects could not be put: of others, and of this call.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) makeRoom(pc *cpuState, objs []uintptr, discard *slabList) (others, own int) {
	closed := !pc.open.Load() || pc.rests
	k.openArea(pc)
	if pc.off {
		return 0, k.giveObjects(pc, objs, discard)
	}
	if closed {
		objs = objs[k.pushBulk(pc, objs):]
		if len(objs) == 0 {
			return 0, 0
		}
	}
	if batch := k.batch(); len(objs) > batch {
		n := (len(objs) - 1) / batch * batch
		own = k.giveObjects(pc, objs[:n], discard)
		objs = objs[n:]
	}
	others, bad := k.giveSheaf(pc, objs, discard)
	return others, own + bad
}

// giveSheaf moves half a sheaf or a whole one to the barn, or to slabs if that is full: what the sheaf had
// last, and objects that would come next. It returns how many could not be put: of
// the sheaf, and of objs.
//
// Preconditions: pc.mu is held; objs are a batch at most.
func (k *core) giveSheaf(pc *cpuState, objs []uintptr, discard *slabList) (others, own int) {
	if len(k.nodes) > 1 {
		return k.giveSheafHome(pc, objs, discard)
	}
	n := pc.node
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.spare(k.batchFor(pc, fromSheaf))
	pc.flow = fromSheaf
	got := k.popBulk(pc, all[:len(all)-len(objs)]) // none: the sheaf is closed, or another one by now, which is empty
	copy(all[got:], objs)
	return k.toNode(n, pc, all[:got+len(objs)], got, got+len(objs) >= k.batch(), discard)
}

// toNode moves objects to a node: to the barn, if they are half a sheaf or more and there is room, or else to
// their slabs. It returns how many could not be put: of the first of them, which were on the sheaf, and of the others.
//
// Preconditions: pc.mu and n.mu are held.
func (k *core) toNode(n *node, pc *cpuState, objs []uintptr, sheaf int, half bool, discard *slabList) (others, own int) {
	kept := 0
	if half {
		kept = k.toBarn(n, pc, objs)
	}
	if kept < sheaf {
		others = k.putObjects(n, objs[kept:sheaf], pc, discard)
		pc.count(SheafFlush, sheaf-kept-others)
	}
	return others, k.putObjects(n, objs[max(kept, sheaf):], pc, discard)
}

// giveObjects hands free objects to the barn, as many whole half sheaves as it has
// room for, and the others to their slabs. It returns how many could not be put.
//
// Preconditions: pc.mu is held.
func (k *core) giveObjects(pc *cpuState, objs []uintptr, discard *slabList) (bad int) {
	if len(k.nodes) > 1 {
		for len(objs) > 0 {
			var buf [maxBatch]uintptr
			some := buf[:copy(buf[:k.batch()], objs)]
			bad += k.giveHome(pc, some, len(some) == k.batch(), false, discard)
			objs = objs[len(some):]
		}
		return bad
	}
	n := pc.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if halves := len(objs) / k.batch() * k.batch(); halves > 0 {
		objs = objs[k.toBarn(n, pc, objs[:halves]):]
	}
	return k.putObjects(n, objs, pc, discard)
}

// giveSheafHome is giveSheaf where there are several nodes, to the node of each object.
//
// Preconditions: pc.mu is held; objs are a batch at most.
func (k *core) giveSheafHome(pc *cpuState, objs []uintptr, discard *slabList) (others, own int) {
	var buf [2 * maxBatch]uintptr
	room := buf[:k.batchFor(pc, fromSheaf)]
	pc.flow = fromSheaf
	got := k.popBulk(pc, room[:len(room)-len(objs)])
	mine := room[got:][:copy(room[got:], objs)]
	all := room[:got+len(mine)]
	half := len(all) >= k.batch()
	home := func(obj uintptr) *node { return k.nodeOf(k.slabOf(pointer(obj))) }
	n := home(all[0])
	if !slices.ContainsFunc(all, func(obj uintptr) bool { return home(obj) != n }) { // one list_lock will do
		n.mu.Lock()
		defer n.mu.Unlock()
		return k.toNode(n, pc, all, got, half, discard)
	}
	others = k.giveHome(pc, all[:got], half, true, discard)
	return others, k.giveHome(pc, mine, half, false, discard)
}

// giveHome moves free objects to their nodes as toNode does. It changes the order of objs,
// and holds one list_lock at a time. flushed says that they were on the sheaf.
//
// Preconditions: pc.mu is held.
func (k *core) giveHome(pc *cpuState, objs []uintptr, half, flushed bool, discard *slabList) (bad int) {
	for len(objs) > 0 {
		n := k.nodeOf(k.slabOf(pointer(objs[0])))
		here := k.gather(n, objs)
		sheaf := 0
		if flushed {
			sheaf = here
		}
		n.mu.Lock()
		others, own := k.toNode(n, pc, objs[:here], sheaf, half, discard)
		n.mu.Unlock()
		bad += others + own
		objs = objs[here:]
	}
	return bad
}

// toBarn moves objects of half a sheaf or more to the barn and returns how many of the first it took: none if
// there is no room, or none for sheaves.
//
// Preconditions: pc.mu and node.mu are held.
func (k *core) toBarn(n *node, pc *cpuState, objs []uintptr) (kept int) {
	if !pc.open.Load() || k.sheafCap.Load() == 0 {
		return 0
	}
	kept = k.putBarn(n, objs)
	if kept > 0 {
		pc.count(BarnPut, 1)
	}
	if kept < len(objs) {
		pc.count(BarnPutFail, 1)
	}
	return kept
}
