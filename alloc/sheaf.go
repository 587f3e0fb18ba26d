package alloc

import (
	"sync/atomic"
	"unsafe"

	"slabfs/internal/percpu"
)

// The operations below use the sheaf of the current CPU, on either engine. On
// the lock engine, that is the CPU whose lock is held. A sequence uses the CPU
// that its thread runs on at that moment, which may be another CPU by now. This
// is harmless: all free objects are alike, and a closer holds the locks of all
// CPUs. But the caller may find a sheaf that is not the one that it has made
// room in.

// sequenceArea returns the address that sequences use for the core's sheaves.
// It is the core's area on CPU 0, or on the lock engine the area that is always
// closed.
func (k *core) sequenceArea() unsafe.Pointer {
	if k.seq {
		return unsafe.Pointer(percpu.At(k.place, 0))
	}
	return closedArea()
}

func closedArea() unsafe.Pointer { return unsafe.Pointer(percpu.At(0, 0)) }

// Preconditions of pop, push, popBulk and pushBulk: pc.mu is held; the core is
// not dying. So the core keeps its place while they run. Without the lock, only
// the fast paths may run a sequence, because they load the area's address
// inside it. An address that was loaded before could belong to another cache by
// now.

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

// bookMove adds n objects to the count of objects that were put on a CPU's
// sheaf in bulk. n is negative if objects were taken.
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

// kill makes the handle dead: from here on its sequences find the closed area,
// and its slow path panics.
//
// Preconditions: slab_mutex is held.
func (c *Cache) kill() {
	c.dead.Store(true)
	atomic.StorePointer(&c.area, closedArea())
}
