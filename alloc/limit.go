package alloc

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

var errLimit = fmt.Errorf("memory limit reached: %w", ErrNoMemory)

// reserve counts bytes against the limit, or returns an error. It never waits.
// No other goroutine sees a reservation that fails: it must not make other
// reservations fail.
func (a *Allocator) reserve(bytes int64) error {
	for {
		used, limit := a.used.Load(), a.limit.Load()
		if limit <= 0 {
			limit = math.MaxInt64
		}
		if bytes > limit-used {
			return errLimit
		}
		if a.used.CompareAndSwap(used, used+bytes) {
			return nil
		}
	}
}

func (a *Allocator) unreserve(bytes int64) { a.used.Add(-bytes) }

// A reclaimer makes free objects of the caches in use into free pages, one
// reclaim at a time.
//
// Protection of fields: L, mu; A, atomic, written under mu.
type reclaimer struct {
	mu      lockdep.RWSem // reclaim_lock, taken for writing only
	gained  bool          // L: the last reclaim freed pages
	ended   time.Time     // L: end of the last reclaim that freed pages or emptied all caches in use
	running atomic.Bool   // A
}

// retryUseless is how long reclaims leave out most caches after a reclaim that
// freed nothing.
const retryUseless = time.Millisecond

// An attempt is the state of the counters when memory was asked for.
type attempt struct{ reclaims, returned uint64 }

func (a *Allocator) newAttempt() attempt { return attempt{a.reclaims.Load(), a.returned.Load()} }

// reclaim makes free objects into free pages. It reports whether pages were
// freed, so that another attempt makes sense. seen is the attempt that failed.
// If a reclaim has ended since then, its result is shared. k is the cache that
// wants an object, or nil.
//
// It empties the caches in use. But goroutines that loop at the limit must not
// keep the sheaves of all caches empty. So for a millisecond after a reclaim
// that freed nothing, it empties only k and caches with a slab whose objects
// are all free. While nobody uses a cache, hasEmptySlab is exact.
//
// Empty slabs of typesafe-by-RCU caches wait for a grace period, and reclaim
// does not. If k is such a cache, reclaim takes back one of its waiting slabs,
// or flushes k, which leaves it min_partial slabs. It turns to other caches
// only if k has nothing. Slabs that a grace period has freed since the attempt
// count as freed pages.
//
// Preconditions: no lock is held.
func (a *Allocator) reclaim(seen attempt, k *core) bool {
	typesafe := k != nil && k.typesafe()
	if !typesafe && a.nothingToReclaim(seen) {
		return false
	}
	gained, emptied := a.reclaimFor(seen, k)
	for _, c := range emptied {
		c.reportDamage()
	}
	return gained
}

// nothingToReclaim reports, without a lock, that no cache is in use, and that
// no reclaim has freed pages since the attempt or is about to.
func (a *Allocator) nothingToReclaim(seen attempt) bool {
	// In this order: a reclaim counts itself before it stops running.
	return a.active.n.Load() == 0 && !a.reclaimer.running.Load() && a.newAttempt() == seen
}

// reclaimFor is reclaim under its lock. It also returns the cores that it
// emptied.
//
// Preconditions: no lock is held.
func (a *Allocator) reclaimFor(seen attempt, k *core) (gained bool, emptied []*core) {
	r := &a.reclaimer
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running.Store(true)
	defer r.running.Store(false)
	since := a.reclaims.Load() != seen.reclaims
	switch {
	case since && r.gained, a.returned.Load() != seen.returned:
		return true, nil
	case k != nil && k.typesafe() && k.takeWaiting():
		return true, nil
	case k != nil && k.typesafe() && k.freeObjects()+k.cached() > 0:
		// If the fence fails, free objects in other CPUs' slabs stay
		// out of reach. With min_partial 0, all slabs may wait after
		// the flush.
		if err := k.flushAlone(); err == nil && k.freeObjects() > 0 || k.takeWaiting() {
			return true, nil
		}
	}
	before := a.used.Load()
	all := r.gained || !since && time.Since(r.ended) >= retryUseless
	emptied = a.emptyCores(k, all)
	gained = a.used.Load() < before
	if gained || all {
		r.gained = gained
		r.ended = time.Now()
		a.reclaims.Add(1)
	}
	return gained || a.returned.Load() != seen.returned, emptied
}

// flushAlone flushes the one cache that wants an object.
//
// Preconditions: no lock below reclaim_lock is held.
func (k *core) flushAlone() error {
	k.a.hotplug.RLock()
	defer k.a.hotplug.RUnlock()
	return k.flushAllLocked(context.Background(), nil, nil) // its context never ends
}

// emptyCores empties all active cores, or only the cores that have an empty
// slab and k if it has free objects. It returns the cores that it emptied.
//
// Preconditions: no lock below reclaim_lock is held.
func (a *Allocator) emptyCores(k *core, all bool) (emptied []*core) {
	a.hotplug.RLock()
	defer a.hotplug.RUnlock()
	for _, c := range a.active.all() {
		if all || c == k && c.cpuFree()+c.cached() > 0 || c.hasEmptySlab() {
			c.empty()
			emptied = append(emptied, c)
		}
	}
	return emptied
}

// cached returns how many free objects are on sheaves and in barns.
func (k *core) cached() int64 { return k.onSheaves() + k.inBarns() }

// onSheaves returns how many free objects are on sheaves. It leaves out areas
// that were never opened, because a read of them would cost page tables.
func (k *core) onSheaves() (n int64) {
	if k.released.Load() {
		return 0
	}
	for _, pc := range k.cpus {
		if pc != nil && pc.open.Load() {
			n += int64(pc.area.Level())
		}
	}
	return n
}

// If more than giveAbove bytes of free pages had memory throughout giveAfter,
// memory goes back to the system until keepFree bytes are left. So a program
// that frees much and soon allocates it again keeps its memory: only the part
// that it did not touch for that long goes back.
const (
	giveAbove = 8 << 20
	keepFree  = 2 << 20
	giveAfter = time.Second
)

// pagesFreed starts the clock after which free memory goes back to the system.
func (a *Allocator) pagesFreed() {
	if pages.Warm() > giveAbove {
		_, _ = a.giver.QueueAfter(giveAfter) // refused after Close, which gives memory back itself
	}
}

// giveMemory is the work that pagesFreed starts.
func (a *Allocator) giveMemory() {
	if pages.ReturnIdle(giveAfter, giveAbove, keepFree) {
		a.pagesFreed()
	}
}

// returnNow gives all free memory back to the system, because the user asked
// for it.
func (a *Allocator) returnNow() { pages.Return(0) }

// SetHugePages asks the system for huge pages of 2 MiB wherever they fit into
// the memory of objects, or for none. It holds for all allocators of the
// process, from now on. Until the first call the system's own setting decides.
//
// ErrNotBuilt: this build has no huge pages, or the system or the process does
// not allow them. The error says which.
func (a *Allocator) SetHugePages(on bool) error {
	h := pages.HugeNever
	if on {
		h = pages.HugeAlways
	}
	if err := pages.SetHuge(h); err != nil {
		return fmt.Errorf("%w: %w", ErrNotBuilt, err)
	}
	return nil
}

// HugePages returns "always" or "never" as SetHugePages asked, or "system"
// before the first call. While the system or the process does not allow huge
// pages, it returns "never" instead of "always".
func (a *Allocator) HugePages() string { return pages.HugePages().String() }
