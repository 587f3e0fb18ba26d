package alloc

import (
	"sync/atomic"
	"unsafe"

	"slabfs/internal/percpu"
)

// The sheaf of the CPU at hand, on either engine. On the lock engine it is that of
// the CPU whose lock is held. A sequence works on the CPU that the thread runs on
// at that moment, which may be another one by now: every free object is as good
// as any other, and a closer holds the locks of all CPUs. So callers must be
// ready for a sheaf that is not the one that they have made room in.

// sequenceArea returns where sequences find the core's sheaves: its area on CPU
// 0, or on the lock engine the area that is closed for ever.
func (k *core) sequenceArea() unsafe.Pointer {
	if k.seq {
		return unsafe.Pointer(percpu.At(k.place, 0))
	}
	return closedArea()
}

func closedArea() unsafe.Pointer { return unsafe.Pointer(percpu.At(0, 0)) }

// Preconditions of pop, push, popBulk and pushBulk: pc.mu is held; the core is
// not dying. So the core keeps its place for as long as they run. Without the
// lock only the fast paths may run a sequence, since they load the area's address
// inside of it: one that was loaded before could be another cache's by now.

func (k *core) pop(pc *cpuState) unsafe.Pointer {
	if k.seq {
		return percpu.PopSeq(k.sequenceArea())
	}
	return pc.area.Pop()
}

func (k *core) push(pc *cpuState, obj unsafe.Pointer) bool {
	if k.seq {
		return percpu.PushSeq(k.sequenceArea(), obj)
	}
	return pc.area.Push(obj)
}

func (k *core) popBulk(pc *cpuState, dst []uintptr) int {
	if k.seq {
		got, at := percpu.PopBulkSeq(k.sequenceArea(), dst)
		k.bookMove(pc, at, -got)
		return got
	}
	got := pc.area.PopBulk(dst)
	pc.moved.add(-got)
	return got
}

func (k *core) pushBulk(pc *cpuState, src []uintptr) int {
	if k.seq {
		kept, at := percpu.PushBulkSeq(k.sequenceArea(), src)
		k.bookMove(pc, at, kept)
		return kept
	}
	kept := pc.area.PushBulk(src)
	pc.moved.add(kept)
	return kept
}

// bookMove notes that n objects were put on a CPU's sheaf in bulk.
//
// Preconditions: pc.mu is held.
func (k *core) bookMove(pc *cpuState, cpu, n int) {
	switch at := k.cpus[cpu]; {
	case at == pc:
		pc.moved.add(n)
	case n != 0:
		at.otherMoved.Add(uint64(n))
	}
}

// kill makes the handle dead: its sequences find the closed area from here on,
// and the slow path panics.
//
// Preconditions: slab_mutex is held.
func (c *Cache) kill() {
	c.dead.Store(true)
	atomic.StorePointer(&c.area, closedArea())
}
