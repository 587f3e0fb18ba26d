package rcu

import "time"

// retry is how long callbacks wait after membarrier(2) has failed.
const retry = 100 * time.Millisecond

// Call has f run after a grace period: when every reader has left that is in a
// section now. Callbacks run one after the other in the order of their calls, on
// a goroutine of the domain, with no lock held; all that wait when a grace period
// begins share it. A callback may call Call. The caller may be in a section or
// hold any lock that is no leaf.
//
// A callback that panics ends the program; runtime.Goexit is a return.
func (d *Domain) Call(f func()) {
	if f == nil {
		panic("rcu: call of a nil function")
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		panic("rcu: call on a closed domain")
	}
	d.calls = append(d.calls, f)
	d.called++
	d.mu.Unlock()
	d.startRunner()
}

// Begun returns how many grace periods have begun. Who finds what it was before a Call
// knows that the grace period of that call is still to come.
func (d *Domain) Begun() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun
}

// startRunner sees to it that callbacks run. It is refused only after Close, when
// there are none.
func (d *Domain) startRunner() { _, _ = d.runner.Queue() }

// Barrier waits until all callbacks have run for which Call had returned before.
//
// It panics from within a callback of the domain, which would wait for itself;
// inside a read-side section it is as Synchronize. An error wraps ErrFence: the
// callbacks are kept, and are tried again soon or by the next Barrier.
func (d *Domain) Barrier() error {
	d.mustNotRead("Barrier")
	d.waits()
	d.mu.Lock()
	last := d.called
	d.mu.Unlock()
	for {
		d.startRunner() // the callers of Call may not have come to it yet
		d.runner.Flush()
		d.mu.Lock()
		ran, err := d.ran, d.err
		d.mu.Unlock()
		switch {
		case ran >= last: // in order, so all that it waits for
			return nil
		case err != nil:
			return err
		}
	}
}

// runCallbacks is the item of d.queue: one grace period for all that wait.
func (d *Domain) runCallbacks() {
	d.mu.Lock()
	batch := d.calls
	d.calls = nil
	d.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	err := d.Synchronize()
	n := 0
	defer func() { // also if a callback ends the goroutine
		d.mu.Lock()
		d.ran += uint64(n)
		d.err = err
		if err == nil {
			d.batch++
		}
		d.calls = append(batch[n:], d.calls...)
		d.mu.Unlock()
		switch {
		case err != nil:
			_, _ = d.runner.QueueAfter(retry)
		case n < len(batch):
			d.startRunner()
		}
	}()
	if err != nil {
		return
	}
	for n < len(batch) {
		f := batch[n]
		batch[n] = nil
		n++
		f()
	}
}
