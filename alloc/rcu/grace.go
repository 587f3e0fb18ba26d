package rcu

import (
	"fmt"

	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/internal/rseq"
)

// Synchronize waits for a grace period: until every reader has left that was in
// a section when Synchronize was called. Callers share grace periods, and one
// of the waiting callers does the work. Synchronize may be called from a
// callback, and then delays the callbacks after it.
//
// It must not be called inside a read-side section, because it would wait for
// itself. Builds that check invariants panic then; others hang. An error wraps
// ErrFence: no grace period has passed.
func (d *Domain) Synchronize() error {
	d.mustNotRead("Synchronize")
	d.waits()
	d.mu.Lock()
	defer d.mu.Unlock()
	// A grace period that runs already may have begun before the caller's
	// change.
	for want := d.begun + 1; d.done < want; {
		if d.busy {
			d.turned.Wait()
			continue
		}
		if err := d.gracePeriod(); err != nil {
			return err
		}
	}
	return nil
}

// waits tells the checker of lock order that a wait for readers is about to
// begin.
func (d *Domain) waits() {
	if lockdep.Enabled() {
		lockdep.Wait(lockdep.GracePeriod, d)
	}
}

// gracePeriod waits for all current readers.
//
// Preconditions: d.mu is held, and is released during the wait; d.busy is
// false.
func (d *Domain) gracePeriod() error {
	d.busy = true
	d.begun++
	defer func() {
		d.busy = false
		d.turned.Broadcast()
	}()
	// If the last fence failed, readers of the other phase are still
	// counted.
	if d.draining.Load() != 0 {
		if err := d.drain(); err != nil {
			return err
		}
	}
	old := d.phase.Load()
	next := otherToken - old
	if d.closed {
		next = 0
	}
	if old != 0 { // 0: the domain is closed and has no readers
		d.draining.Store(old)
		d.phase.Store(next)
		if err := d.drain(); err != nil {
			return err
		}
	}
	d.done = d.begun
	d.ended++
	return nil
}

// drain waits for the readers of the draining phase.
//
// Preconditions: d.mu is held, and is released during the wait; d.busy is true.
func (d *Domain) drain() error {
	if fault.RCUNoWait {
		d.draining.Store(0)
		return nil
	}
	if len(d.cpus) > 0 && !fault.RCUNoFence {
		d.mu.Unlock()
		err := rseq.Fence()
		d.mu.Lock()
		if err != nil {
			d.failed++
			return fmt.Errorf("%w: %w", ErrFence, err)
		}
	}
	for old := d.draining.Load(); !d.drained(old); {
		d.left.Wait()
	}
	d.draining.Store(0)
	return nil
}

// drained reports whether all readers with that token have left. It sums ends
// before starts. So for each end in the sums, the start is in the sums too, and
// a reader inside a section is missing on one side only.
//
// Preconditions: d.mu is held, d.busy is true.
func (d *Domain) drained(token uint64) bool {
	word := token / 8
	out := d.sumSequences(word+toUnlocks/8) + d.sumAtomics(word+toUnlocks/8)
	in := d.sumSequences(word) + d.sumAtomics(word)
	if n := int64(out - in); n > 0 {
		panic(fmt.Sprintf("rcu: %d read-side sections ended more often than they began", n))
	}
	return in == out
}
