package alloc

import (
	"sync/atomic"
	"time"

	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/workqueue"
)

// rcuDestroy is slab_caches_to_rcu_destroy and the work that empties it. A core
// is given away when it is put on the list, not when the work is scheduled: a
// run that another core has scheduled takes it along. So the list comes after
// unlink.
//
// Protection of fields: I, set by New, then constant; L, mu; A, atomic.
type rcuDestroy struct {
	queue *workqueue.Queue // I: a queue of its own, because an endless reader blocks it
	work  *workqueue.Work  // I: pending or running while something is listed, or about to be scheduled

	mu   lockdep.Mutex // leaf
	list []*departure  // L: unlinked and not released

	caches  atomic.Uint64 // A: caches that the work has released
	batches atomic.Uint64 // A: runs of the work that released caches
}

// retryRelease is how long the work waits after membarrier(2) has failed.
const retryRelease = 100 * time.Millisecond

func (a *Allocator) initRCUDestroy() {
	d := &a.toRelease
	d.mu.Init(lockdep.Leaf)
	d.queue = workqueue.New("slab_rcu_destroy", workqueue.Options{})
	d.work = d.queue.NewWork(func() { _ = a.releaseListed() }) // if it fails, it queues itself again
}

// list puts the typesafe-by-RCU cores on slab_caches_to_rcu_destroy. No tree
// shows them. From here on they may be released at any moment.
func (d *departure) list() {
	if len(d.those(true)) > 0 {
		r := &d.a.toRelease
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = append(r.list, d)
	}
}

// schedule starts the work. It releases the cores when the callbacks that free
// their slabs have run.
func (d *departure) schedule() {
	if len(d.those(true)) > 0 {
		_, _ = d.a.toRelease.work.Queue() // never refused: Close waits for all destroys
	}
}

// releaseListed is the work. It takes the whole list, waits, and releases all
// cores of the list. A grace period is not a long enough wait, because
// callbacks run some time after it. If the wait fails, nothing is released, and
// the work tries again later.
func (a *Allocator) releaseListed() error {
	d := &a.toRelease
	d.mu.Lock()
	list := d.list
	d.list = nil
	d.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	wait := a.rcu.Barrier
	if fault.RCUNoBarrier {
		wait = a.rcu.Synchronize
	}
	if err := wait(); err != nil {
		d.mu.Lock()
		d.list = append(list, d.list...)
		d.mu.Unlock()
		_, _ = d.work.QueueAfter(retryRelease)
		return err
	}
	var cores []*core
	for _, l := range list {
		l.take(a.order.work)
		cores = append(cores, l.those(true)...)
	}
	release(cores)
	d.caches.Add(uint64(len(cores)))
	d.batches.Add(1)
	return nil
}

// RCUReleases returns how many destroyed typesafe-by-RCU caches were released,
// and in how many batches. Each batch waited once, for all of its caches.
func (a *Allocator) RCUReleases() (caches, batches uint64) {
	return a.toRelease.caches.Load(), a.toRelease.batches.Load()
}

// endRCU releases the listed cores, and ends the work and the domain. If it
// fails, it can be called again.
//
// Preconditions: no cache is left, and no destroy has yet to end.
func (a *Allocator) endRCU() error {
	d := &a.toRelease
	d.work.CancelSync()
	if err := a.releaseListed(); err != nil {
		return err
	}
	if err := a.rcu.Close(); err != nil {
		return err
	}
	d.queue.Destroy()
	return nil
}

// tellReaders tells the checker of lock order, once, that a reader may take any
// of the allocator's locks in its section. So nobody may wait for a grace
// period while holding one of them. The checker does not see the sections
// themselves, because a section may end on another goroutine.
func (a *Allocator) tellReaders() {
	if !lockdep.Enabled() {
		return
	}
	lockdep.Acquire(lockdep.GracePeriod, a.rcu, lockdep.Recursive|lockdep.Try)
	defer lockdep.Release(lockdep.GracePeriod, a.rcu)
	a.reclaimer.mu.Lock()
	defer a.reclaimer.mu.Unlock()
	a.hotplug.RLock()
	defer a.hotplug.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flushLock.Lock()
	defer a.flushLock.Unlock()
}
