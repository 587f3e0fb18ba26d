package alloc

import (
	"context"
	"fmt"

	"slabfs/internal/percpu"
)

// An Event is something that a cache counts on each CPU: the events of
// CONFIG_SLUB_STATS in Linux 2.6.25 to 6.18. docs/abi/slab.md compares them.
type Event uint8

// Events. Each allocated object counts once, as AllocFastpath or AllocSlowpath.
// Each freed object counts once, as FreeFastpath or FreeSlowpath. Single and
// bulk calls count alike. A call that returns nil or panics counts as neither.
// If an AllocBulk meets the memory limit, the objects that it took count as
// allocated and then as freed.
const (
	AllocFastpath     Event = iota // objects taken from a sheaf
	AllocSlowpath                  // objects taken from elsewhere: the sheaf was empty, or its capacity is 0
	FreeFastpath                   // objects put on a sheaf that had room
	FreeSlowpath                   // objects that found no room on the sheaf
	FreeFrozen                     // objects put into slabs that CPUs keep
	FreeAddPartial                 // full slabs that got an object back and went to the partial list
	FreeRemovePartial              // slabs that became empty on the partial list and left it
	AllocFromPartial               // slabs of the partial list that became a cpu slab
	AllocSlab                      // slabs made, or taken back while they waited for a grace period
	AllocRefill                    // times that objects were taken from a cpu slab that the CPU already had
	FreeSlab                       // slabs given back to the pages, after a grace period if needed
	CPUSlabFlush                   // CPUs whose slabs were flushed
	DeactivateEmpty                // empty slabs that a CPU gave up and that went back to the pages
	DeactivateToTail               // slabs that a CPU gave up and that went to the partial list
	DeactivateBypass               // cpu slabs whose last free object was taken
	CPUPartialAlloc                // cpu partial slabs that became the cpu slab
	CPUPartialFree                 // full slabs that got an object back and became cpu partial slabs
	CPUPartialNode                 // slabs of the partial list that became cpu partial slabs
	CPUPartialDrain                // times that a CPU had too many slabs and gave up all of them
	SheafFlush                     // objects moved from sheaves and barns to their slabs
	SheafRefill                    // objects moved from slabs to a sheaf
	SheafAlloc                     // sheaves opened: once for each CPU that uses the cache
	BarnGet                        // times that objects came from the barn
	BarnGetFail                    // times that the barn was empty
	BarnPut                        // times that objects went to the barn
	BarnPutFail                    // times that the barn had no room for all of the objects
	numEvents
)

var eventNames = [numEvents]string{
	AllocFastpath: "alloc_fastpath", AllocSlowpath: "alloc_slowpath", FreeFastpath: "free_fastpath", FreeSlowpath: "free_slowpath",
	FreeFrozen: "free_frozen", FreeAddPartial: "free_add_partial", FreeRemovePartial: "free_remove_partial",
	AllocFromPartial: "alloc_from_partial", AllocSlab: "alloc_slab", AllocRefill: "alloc_refill", FreeSlab: "free_slab",
	CPUSlabFlush: "cpuslab_flush", DeactivateEmpty: "deactivate_empty", DeactivateToTail: "deactivate_to_tail",
	DeactivateBypass: "deactivate_bypass", CPUPartialAlloc: "cpu_partial_alloc", CPUPartialFree: "cpu_partial_free",
	CPUPartialNode: "cpu_partial_node", CPUPartialDrain: "cpu_partial_drain", SheafFlush: "sheaf_flush", SheafRefill: "sheaf_refill",
	SheafAlloc: "sheaf_alloc", BarnGet: "barn_get", BarnGetFail: "barn_get_fail", BarnPut: "barn_put", BarnPutFail: "barn_put_fail",
}

// String returns the event's name in Linux.
func (e Event) String() string {
	if e >= numEvents {
		return fmt.Sprintf("Event(%d)", uint8(e))
	}
	return eventNames[e]
}

// count adds n to an event's count.
//
// Preconditions: pc.mu is held.
func (pc *cpuState) count(e Event, n int) { pc.events[e].add(n) }

// count adds n to an event's count on pc, whose lock is held, or on the current
// CPU if pc is nil.
func (k *core) count(pc *cpuState, e Event, n int) {
	switch {
	case pc != nil:
		pc.count(e, n)
	case n != 0:
		k.here().otherEvents[e].Add(uint64(n))
	}
}

// deactivated returns the event for a slab that a CPU gives up. kept says
// whether the node keeps the slab.
func deactivated(kept bool) Event {
	if kept {
		return DeactivateToTail
	}
	return DeactivateEmpty
}

// nearly is more objects than can be moved and not yet booked at any moment.
const nearly = 1 << 20

// happened returns how often an event has happened on a CPU. The fast paths
// count nothing except what the sheaf's header counts:
//
//	alloc_fastpath == pops + objects taken by bulk calls
//	free_fastpath == pushes + objects brought by bulk calls
//	pushes == pops + level - moved
//
// The result is exact while no call runs, and if all per-CPU locks are held.
//
// Preconditions: the core is not released.
func (pc *cpuState) happened(e Event) uint64 {
	n := pc.events[e].load() + pc.otherEvents[e].Load()
	if e != AllocFastpath && e != FreeFastpath || !pc.open.Load() {
		return n
	}
	var moved, pops uint64
	var level int
	for range 8 { // objects may move between the loads
		moved = pc.moved.load() + pc.otherMoved.Load()
		pops, level = pc.area.Counts()
		if pc.moved.load()+pc.otherMoved.Load() == moved {
			break
		}
	}
	n += pops
	if e == FreeFastpath {
		n += uint64(level) - moved
	}
	n &= percpu.CountMask
	if n > percpu.CountMask-nearly { // negative: a move is not booked yet
		return 0
	}
	return n
}

// Events returns, by CPU number, how often an event has happened since the
// cache was made or the event was cleared. It takes no lock. An offline CPU has
// 0, as have all CPUs if the cache is destroyed.
//
// The counts are exact while nobody uses the cache. AllocFastpath and
// FreeFastpath start again at 0 after 2^48.
func (c *Cache) Events(e Event) []uint64 {
	k := c.core
	counts := make([]uint64, len(k.cpus))
	if k.released.Load() {
		return counts
	}
	for n := range k.a.hotplug.Online().All() {
		counts[n] = k.cpus[n].happened(e)
	}
	return counts
}

// ClearEvents sets the counts of an event to 0 on all CPUs that are online. If
// ctx ends while it waits for its locks, it returns ctx's error and has done
// nothing. In a store of the cache's own files, it does nothing if the cache is
// being destroyed.
func (c *Cache) ClearEvents(ctx context.Context, e Event) error {
	c.mustBeStore("ClearEvents")
	defer c.CheckReleased()
	_, err := c.core.clearEvents(ctx, e)
	return err
}

// clearEvents returns the sum of the counts that it has cleared.
func (k *core) clearEvents(ctx context.Context, e Event) (cleared uint64, err error) {
	a := k.a
	if err := a.hotplug.RLockContext(ctx); err != nil {
		return 0, err
	}
	defer a.hotplug.RUnlock()
	if err := a.flushLock.LockContext(ctx); err != nil {
		return 0, err
	}
	defer a.flushLock.Unlock()
	if k.dying {
		return 0, nil
	}
	k.lockCPUs() // every move is booked
	defer k.unlockCPUs()
	for n := range a.hotplug.Online().All() {
		pc := k.cpus[n]
		happened := pc.happened(e)
		pc.events[e].add(-int(happened))
		cleared += happened
	}
	return cleared, nil
}
