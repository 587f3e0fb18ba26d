package alloc

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"slabfs/internal/fault"
	"slabfs/internal/pages"
	"slabfs/internal/rseq"
)

// flushAll moves all objects that are free when it begins back to their slabs,
// and the slabs that CPUs keep to their node. If ctx ends while it waits for
// its locks, it returns ctx's error and nothing has happened. See
// flushAllLocked for set and after.
//
// Unlike SLUB it does not run work on each CPU: closing the sheaves from
// outside is one step for all of them, and needs no thread there.
func (k *core) flushAll(ctx context.Context, set, after func()) error {
	a := k.a
	if err := a.hotplug.RLockContext(ctx); err != nil {
		return err
	}
	defer k.reportDamage()
	defer a.hotplug.RUnlock()
	return k.flushAllLocked(ctx, set, after)
}

// flushAllLocked is flushAll for callers that keep CPUs from coming and going.
// If set and after are not nil, they run under flush_lock, unless the cache is
// being destroyed: set while all sheaves are closed and empty, after when the
// flush is done.
//
// Preconditions: the hotplug lock is held.
func (k *core) flushAllLocked(ctx context.Context, set, after func()) error {
	a := k.a
	if err := a.flushLock.LockContext(ctx); err != nil {
		return err
	}
	defer a.flushLock.Unlock()
	if k.dying {
		return nil
	}
	if err := k.flush(set); err != nil {
		return err
	}
	if after != nil {
		after()
	}
	return nil
}

// flush is flushAll under its locks.
//
// Preconditions: the hotplug lock and flush_lock are held; the core is not
// dying.
func (k *core) flush(set func()) error {
	a := k.a
	a.roomFor(k)
	k.lockCPUs()
	if err := a.closeAreas([]*core{k}); err != nil {
		k.unlockCPUs()
		return err
	}
	objs, kept := k.collect(a.flushBuf[:0])
	if set != nil {
		set()
	}
	k.reopenAreas()
	k.unlockCPUs()
	k.giveBack(objs, &kept)
	return nil
}

// closeAreas closes the opened sheaves of some cores. Their content then
// belongs to the caller. One fence serves all sheaves. If it fails, closeAreas
// returns its error, the sheaves are open again and nothing has happened.
//
// Preconditions: flush_lock and every per-CPU lock of the cores are held.
func (a *Allocator) closeAreas(cores []*core) error {
	for _, k := range cores {
		for _, pc := range k.cpus {
			if pc != nil && pc.open.Load() {
				pc.area.Close()
			}
		}
	}
	if a.engine == RSeq && !fault.NoFence {
		if err := rseq.Fence(); err != nil {
			for _, k := range cores {
				k.reopenAreas()
			}
			return fmt.Errorf("close the sheaves of cache %q: %w", cores[0].name, err)
		}
	}
	if fault.MprotectWhileClosed {
		interrupt()
	}
	return nil
}

// reopenAreas undoes closeAreas. The sheaves get the capacity that is set by
// now.
//
// Preconditions: flush_lock and every per-CPU lock are held.
func (k *core) reopenAreas() {
	for _, pc := range k.cpus {
		if pc != nil {
			k.reopen(pc)
		}
	}
}

// reopen opens a sheaf again, unless it was never opened, or rests, or its CPU
// is offline.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) reopen(pc *cpuState) {
	if pc.open.Load() && !pc.rests && !pc.off {
		pc.area.Open(int(k.sheafCap.Load()))
	}
}

// roomFor makes the flush buffer large enough for collect before any sheaf is
// closed. While sheaves are closed, nothing may wait for memory.
//
// Preconditions: flush_lock is held.
func (a *Allocator) roomFor(k *core) {
	if need := a.hotplug.Possible().Count()*int(k.sheafCap.Load()) + len(k.nodes)*barnSheaves*k.batch(); cap(a.flushBuf) < need {
		a.flushBuf = make([]uintptr, 0, need)
	}
}

// collect takes everything that the CPUs hold: the content of the closed
// sheaves, and the slabs that CPUs keep, which are then on no list. It also
// empties the barns.
//
// Preconditions: every per-CPU lock is held; the areas are closed; objs has
// room.
func (k *core) collect(objs []uintptr) ([]uintptr, slabList) {
	var kept slabList
	for _, n := range k.nodes {
		n.mu.Lock()
		for _, pc := range k.cpus {
			if pc != nil && pc.node == n {
				objs = k.collectCPU(pc, objs, &kept)
			}
		}
		k.count(nil, SheafFlush, len(n.barn))
		objs = append(objs, n.barn...)
		n.barn = n.barn[:0]
		n.inBarn.Store(0)
		n.mu.Unlock()
	}
	return objs, kept
}

// collectCPU is collect for one CPU, without the barn.
//
// Preconditions: pc.mu and pc.node.mu are held; the area is closed; objs has
// room.
func (k *core) collectCPU(pc *cpuState, objs []uintptr, kept *slabList) []uintptr {
	if pc.open.Load() {
		before := len(objs)
		objs = pc.area.Drain(objs)
		pc.moved.add(before - len(objs))
		pc.count(SheafFlush, len(objs)-before)
	}
	if pc.slabs.n > 0 {
		pc.count(CPUSlabFlush, 1)
	}
	for p := pc.slabs.head; p != 0; p = pc.slabs.head {
		k.unkeep(pc, p)
		slabAt(p).where = underWay
		pc.node.cpuFree.Add(-int64(k.freeIn(slabAt(p))))
		kept.pushBack(p)
	}
	return objs
}

// giveBack moves objects and slabs that collect took to their nodes. The caller
// calls reportDamage once its locks are released.
func (k *core) giveBack(objs []uintptr, kept *slabList) {
	var discard slabList
	bad := 0
	for _, n := range k.nodes {
		here := k.gather(n, objs)
		n.mu.Lock()
		bad += k.putObjects(n, objs[:here], nil, &discard)
		for p := kept.head; p != 0; {
			s := slabAt(p)
			next := s.next
			if k.nodeOf(p) == n {
				kept.remove(p)
				if k.freeIn(s) == 0 {
					s.where = onNone
				} else {
					k.count(nil, deactivated(k.addPartial(n, p, &discard)), 1)
				}
			}
			p = next
		}
		n.mu.Unlock()
		objs = objs[here:]
	}
	k.discardSlabs(&discard)
	k.damaged(bad)
}

// shrink flushes the cache, frees every empty slab, even below min_partial, and
// sorts the others so that the fullest are used first.
func (k *core) shrink(ctx context.Context) error {
	if err := k.flushAll(ctx, nil, k.shrinkNodes); err != nil {
		return err
	}
	k.a.returnNow()
	return nil
}

// sortLimit is how many free objects a slab may have to be sorted by shrink
// (Linux: SHRINK_PROMOTE_MAX). Slabs with more stay behind.
const sortLimit = 32

// shrinkNodes is the part of shrink after the flush.
//
// Preconditions: flush_lock is held, so that no destroy counts objects at the
// same time; the core is not dying.
func (k *core) shrinkNodes() {
	var discard slabList
	for _, n := range k.nodes {
		k.shrinkNode(n, &discard)
	}
	k.discardSlabs(&discard)
}

// shrinkNode is shrinkNodes for one node.
func (k *core) shrinkNode(n *node, discard *slabList) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sorted []pages.Page
	for p := n.partial.head; p != 0; {
		s := slabAt(p)
		next := s.next
		switch free := k.freeIn(s); {
		case s.inUse == 0:
			n.removePartial(p)
			k.drop(n, p, discard)
		case free <= sortLimit:
			n.partial.remove(p)
			sorted = append(sorted, p)
		}
		p = next
	}
	slices.SortStableFunc(sorted, func(p, q pages.Page) int {
		return cmp.Compare(k.freeIn(slabAt(q)), k.freeIn(slabAt(p))) // the fullest comes last, for pushFront
	})
	for _, p := range sorted {
		n.partial.pushFront(p)
	}
	n.partials.Store(int64(n.partial.n))
}
