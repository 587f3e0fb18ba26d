package alloc

import (
	"slices"
	"unsafe"

	"slabfs/internal/invariants"
)

// freeSlow is Free on the lock engine, or after a sequence could not serve it.
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

// freeSlower frees an object if the CPU's sheaf has no room, or if a sequence
// could not push it.
//
// Preconditions: pc.mu is held; freeSlower releases it.
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
	one := [1]uintptr{uintptr(obj)} // pushed in bulk, so that it does not count as free_fastpath
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

// makeRoom keeps objects that do not fit on the sheaf. They move to the barn in
// batches, or to slabs if the barn is full. A short last batch is topped up
// from the sheaf. If the sheaf cannot be used, the objects go to their slabs.
// It returns how many objects could not go back to their slab: objects of other
// calls, and objects of this call.
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

// giveSheaf moves half a sheaf or a whole one to the barn, or to slabs if the
// barn is full. It takes the objects on top of the sheaf, and objs after them.
// It returns how many objects could not go back to their slab: objects of the
// sheaf, and objects of objs.
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
	// got is 0 if the sheaf is closed, or if the thread is on another CPU
	// by now, whose sheaf is empty.
	got := k.popBulk(pc, all[:len(all)-len(objs)])
	copy(all[got:], objs)
	return k.toNode(n, pc, all[:got+len(objs)], got, got+len(objs) >= k.batch(), discard)
}

// toNode moves objects to the barn if they are half a sheaf or more and there
// is room, or else to their slabs. The first objects, sheaf of them, were on
// the sheaf. It returns how many objects could not go back to their slab: of
// these, and of the others.
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

// giveObjects moves free objects to the barn, as many whole batches as it has
// room for, and the others to their slabs. It returns how many could not go
// back to their slab.
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

// giveSheafHome is giveSheaf if there are several nodes. Each object goes to
// its own node.
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
	if !slices.ContainsFunc(all, func(obj uintptr) bool { return home(obj) != n }) { // one list_lock is enough
		n.mu.Lock()
		defer n.mu.Unlock()
		return k.toNode(n, pc, all, got, half, discard)
	}
	others = k.giveHome(pc, all[:got], half, true, discard)
	return others, k.giveHome(pc, mine, half, false, discard)
}

// giveHome moves free objects to their nodes as toNode does. It changes the
// order of objs, and holds one list_lock at a time. flushed says that the
// objects were on the sheaf.
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

// toBarn moves half a sheaf or more to the barn, and returns how many of the
// first objects the barn took. It takes none if it has no room, or if sheaves
// are off.
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
