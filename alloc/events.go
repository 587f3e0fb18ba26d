package alloc

import (
	"context"
	"fmt"

	"slabfs/internal/percpu"
)

// An Event is something that a cache counts, for each CPU: what SLUB_STATS
// counts in Linux.
type Event uint8

// Events. Each object that is handed out counts once, as AllocFastpath or
// AllocSlowpath, and each that is taken back as FreeFastpath or FreeSlowpath, in
// bulk or not. A call that returns nil or panics counts as neither; what an
// AllocBulk took before it met the memory limit counts as taken and as given back.
const (
	AllocFastpath     Event = iota // objects from a sheaf
	AllocSlowpath                  // objects from elsewhere: the sheaf was empty, or there is none
	FreeFastpath                   // objects to a sheaf that had room
	FreeSlowpath                   // objects that found no room there
	FreeFrozen                     // objects put into slabs that CPUs keep
	FreeAddPartial                 // slabs that had no free object until one was put there, and went to the partial list
	FreeRemovePartial              // slabs that became empty on the partial list, and left it
	AllocFromPartial               // slabs of the partial list that became a cpu slab
	AllocSlab                      // slabs made
	AllocRefill                    // times that objects were taken from a cpu slab which was there
	FreeSlab                       // slabs given back to the pages
	CPUSlabFlush                   // CPUs whose slabs were flushed
	DeactivateEmpty                // slabs that CPUs kept, given back to the pages
	DeactivateToTail               // slabs that CPUs kept, put on the partial list
	DeactivateBypass               // cpu slabs whose last free object was taken
	CPUPartialAlloc                // cpu partial slabs that became the cpu slab
	CPUPartialFree                 // slabs that had no free object until one was put there, and became cpu partial slabs
	CPUPartialNode                 // slabs of the partial list that became cpu partial slabs
	CPUPartialDrain                // times that a CPU had to give up what it kept, for a new slab
	SheafFlush                     // objects moved from sheaves and barns to their slabs
	SheafRefill                    // objects moved from slabs to a sheaf
	SheafAlloc                     // sheaves opened
	BarnGet                        // times that objects came from the barn
	BarnGetFail                    // times that the barn had none
	BarnPut                        // times that objects went to the barn
	BarnPutFail                    // times that it had no room for them, or not for all
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

// count books an event that happened n times.
//
// Preconditions: pc.mu is held.
func (pc *cpuState) count(e Event, n int) { pc.events[e].add(n) }

// count books an event on a CPU whose lock is held, or if that is nil on the CPU at hand.
func (k *core) count(pc *cpuState, e Event, n int) {
	switch {
	case pc != nil:
		pc.count(e, n)
	case n != 0:
		k.here().otherEvents[e].Add(uint64(n))
	}
}

// deactivated returns what happens to a slab that a CPU gives up: whether the node keeps it.
func deactivated(kept bool) Event {
	if kept {
		return DeactivateToTail
	}
	return DeactivateEmpty
}

// nearly is more than what can be under way between a sheaf and its books at any moment.
const nearly = 1 << 20

// happened returns how often an event has happened on a CPU. The fast paths count
// nothing but what the sheaf's header tells:
//
//	alloc_fastpath == pops + what bulk calls took
//	free_fastpath == pushes + what bulk calls brought, where pushes == pops + level - moved
//
// It is exact while no call is under way, and where all per-CPU locks are held.
//
// Preconditions: the core is not released.
func (pc *cpuState) happened(e Event) uint64 {
	n := pc.events[e].load() + pc.otherEvents[e].Load()
	if e != AllocFastpath && e != FreeFastpath || !pc.open.Load() {
		return n
	}
	var moved, pops uint64
	var level int
	for range 8 { // objects move meanwhile
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
	if n > percpu.CountMask-nearly { // negative: moved is not booked yet
		return 0
	}
	return n
}

// Events returns how often an event has happened since the cache was made or the
// event was cleared, by CPU number; 0 for a CPU that is offline. It takes no lock.
// It is exact while nobody uses the cache. AllocFastpath and FreeFastpath begin
// anew after 2^48. Those of a destroyed cache are 0.
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

// ClearEvents makes the counts of an event 0, but for CPUs that are offline. It
// returns ctx's error, and has done nothing, if ctx ends while it waits for its
// locks. In a store of the cache's own files it does nothing if the cache is being
// destroyed.
func (c *Cache) ClearEvents(ctx context.Context, e Event) error {
	c.mustBeStore("ClearEvents")
	defer c.CheckReleased()
	_, err := c.core.clearEvents(ctx, e)
	return err
}

// clearEvents returns how many it has cleared.
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
	k.lockCPUs() // whatever was moved is booked
	defer k.unlockCPUs()
	for n := range a.hotplug.Online().All() {
		pc := k.cpus[n]
		happened := pc.happened(e)
		pc.events[e].add(-int(happened))
		cleared += happened
	}
	return cleared, nil
}
