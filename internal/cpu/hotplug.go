package cpu

import (
	"context"
	"sync/atomic"

	"slabfs/internal/lockdep"
)

// Hotplug is cpu_hotplug_lock with what it guards: which CPUs are online for
// one allocator. Whoever reads it under the lock knows that none comes or goes.
type Hotplug struct {
	sem      lockdep.RWSem
	possible Mask                 // constant after Init
	online   atomic.Pointer[Mask] // changed only while sem is held for writing
}

// Init makes all possible CPUs online.
func (h *Hotplug) Init(possible Mask) {
	h.sem.Init(lockdep.CPUHotplug)
	h.possible = possible
	h.online.Store(&possible)
}

// Possible returns the CPUs that can ever be online.
func (h *Hotplug) Possible() Mask { return h.possible }

// Online returns the CPUs that are online.
func (h *Hotplug) Online() Mask { return *h.online.Load() }

// RLock keeps CPUs from coming and going. A queued writer holds new readers
// back, so a goroutine never takes it twice.
func (h *Hotplug) RLock() { h.sem.RLock() }

// RLockContext is RLock that gives up when ctx ends, with ctx's error.
func (h *Hotplug) RLockContext(ctx context.Context) error { return h.sem.RLockContext(ctx) }

// RUnlock ends what RLock began.
func (h *Hotplug) RUnlock() { h.sem.RUnlock() }

// Lock is taken to change which CPUs are online.
func (h *Hotplug) Lock() { h.sem.Lock() }

// Unlock ends what Lock began.
func (h *Hotplug) Unlock() { h.sem.Unlock() }

// WritersWaited returns how many calls of Lock had to wait for readers.
func (h *Hotplug) WritersWaited() uint64 { return h.sem.WritersWaited() }
