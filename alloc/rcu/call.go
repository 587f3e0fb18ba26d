package rcu

import "time"

// retry is how long callbacks wait after a failure of membarrier(2).
const retry = 100 * time.Millisecond

// Call runs f after a grace period, when every reader has left that is in a
// section now. Callbacks run one after the other, in the order of their calls,
// on a goroutine of the domain, with no lock held. All callbacks that wait when
// a grace period begins share it. A callback may call Call. The caller may be
// in a section, and may hold any lock that is not a leaf.
//
// A callback that panics ends the program. A callback that calls runtime.Goexit
// counts as one that returned. Call panics on a closed domain.
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

// Begun returns how many grace periods have begun. If Begun has not changed
// since a Call, that call's grace period has not started.
func (d *Domain) Begun() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun
}

// startRunner makes the callbacks run soon. It is refused only after Close,
// when there are none.
func (d *Domain) startRunner() { _, _ = d.runner.Queue() }

// Barrier waits for all callbacks whose Call had returned before Barrier was
// called.
//
// It panics if it is called from a callback of the domain, because it would
// wait for itself. Inside a read-side section it behaves like Synchronize. An
// error wraps ErrFence: the callbacks are kept, and are tried again soon or by
// the next Barrier.
func (d *Domain) Barrier() error {
	d.mustNotRead("Barrier")
	d.waits()
	d.mu.Lock()
	last := d.called
	d.mu.Unlock()
	for {
		d.startRunner() // the callers of Call may not have done so yet
		d.runner.Flush()
		d.mu.Lock()
		ran, err := d.ran, d.err
		d.mu.Unlock()
		switch {
		case ran >= last: // callbacks run in order, so all that Barrier waits for have run
			return nil
		case err != nil:
			return err
		}
	}
}

// runCallbacks is the work item of d.queue. It runs all waiting callbacks after
// one grace period.
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
