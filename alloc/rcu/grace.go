package rcu

import (
	"fmt"

	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/internal/rseq"
)

// Synchronize waits for a grace period: until every reader has left that was in a
// section when it was called. Callers share grace periods, and one of those that
// wait does the work. It may be called from a callback, and then holds up those
// behind it.
//
// Inside a read-side section it would wait for itself; it panics there in builds
// that check invariants, and else hangs. An error wraps ErrFence: no grace
// period has passed.
func (d *Domain) Synchronize() error {
	d.mustNotRead("Synchronize")
	d.waits()
	d.mu.Lock()
	defer d.mu.Unlock()
	// The one under way may have begun before what the caller did.
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

// waits tells the checker of lock order of a wait for readers that is about to begin.
func (d *Domain) waits() {
	if lockdep.Enabled() {
		lockdep.Wait(lockdep.GracePeriod, d)
	}
}

// gracePeriod waits for all readers of now.
//
// Preconditions: d.mu is held, and dropped meanwhile; d.busy is false.
func (d *Domain) gracePeriod() error {
	d.busy = true
	d.begun++
	defer func() {
		d.busy = false
		d.turned.Broadcast()
	}()
	// A grace period whose fence failed has left readers of the other phase behind.
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
	if old != 0 { // else there are no readers
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

// drain waits for the readers of the phase that is over.
//
// Preconditions: d.mu is held, and dropped meanwhile; d.busy is true.
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

// drained reports whether all readers of that token have left. Ends are counted
// before beginnings: each end that is seen has its beginning seen too, so that a
// reader who is in is missing on one side only.
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
