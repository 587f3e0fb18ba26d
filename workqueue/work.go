package workqueue

import (
	"container/list"
	"fmt"
	"time"

	"slabfs/internal/lockdep"
)

// A Work is an item of one queue.
//
// Protection of fields:
//
//	I  set by NewWork, then constant
//	L  q.mu
type Work struct {
	q  *Queue // I
	fn func() // I

	after     time.Duration // L: while w is in q.timed: the delay
	due       time.Time     // L: when after ends, by the home's clock; zero until it is seen
	place     *list.Element // L: w's place in q.ready, or nil
	seq       uint64        // L: q.seq when w was last put there
	running   bool          // L
	runSeq    uint64        // L: seq of the queueing that runs
	canceling int           // L: current calls of CancelSync
}

// NewWork returns an item that runs fn on q.
func (q *Queue) NewWork(fn func()) *Work { return &Work{q: q, fn: fn} }

// Queue queues the item and reports whether it did. False without an error
// means that the item is pending already; its next run begins after this call.
// On an error, one of ErrDestroyed, ErrDraining and ErrCanceled, this call
// leads to no run.
func (w *Work) Queue() (bool, error) { return w.QueueAfter(0) }

// QueueAfter is Queue after a delay. The item is pending during the delay too.
func (w *Work) QueueAfter(after time.Duration) (bool, error) {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.pending() {
		return false, nil
	}
	if err := w.q.refusal(w, after); err != nil {
		return false, err
	}
	w.put(after)
	return true, nil
}

// Mod queues the item with a new delay, pending or not, and reports whether it
// was pending. It returns the same errors as Queue. If it returns an error,
// nothing has changed.
func (w *Work) Mod(after time.Duration) (bool, error) {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if err := w.q.refusal(w, after); err != nil {
		return w.pending(), err
	}
	was := w.takeBack()
	w.put(after)
	return was, nil
}

// Flush waits until the item's last queueing has run. An item that still waits
// for its time runs now. If Mod moves the queueing, or Cancel takes it back,
// Flush stops waiting for it.
func (w *Work) Flush() {
	w.flushes()
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	w.q.mustNotBeWorker("flush of an item")
	w.expire()
	for last := w.q.seq; !w.settled(last); {
		w.q.changed.Wait()
	}
}

// Cancel takes back the item's queueing, and reports whether the item was
// pending. The item may still be running.
func (w *Work) Cancel() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.takeBack()
}

// CancelSync is Cancel, but also waits until the item no longer runs. Until
// then, queueing the item fails with ErrCanceled. Two items that call
// CancelSync for each other wait forever. CancelSync panics inside the item
// itself.
func (w *Work) CancelSync() bool {
	w.cancels()
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.q.running[lockdep.Goroutine()] == w {
		panic(fmt.Sprintf("workqueue: cancel of an item of queue %q from within waits for itself", w.q.name))
	}
	was := w.takeBack()
	w.canceling++
	for w.running {
		w.q.changed.Wait()
	}
	w.canceling--
	return was
}

// pending reports whether the item is queued, now or for later.
//
// Preconditions: w.q.mu is held.
func (w *Work) pending() bool { return w.after > 0 || w.place != nil }

// settled reports whether the item's queueings up to last have run or were
// taken back.
//
// Preconditions: w.q.mu is held.
func (w *Work) settled(last uint64) bool {
	return (w.place == nil || w.seq > last) && (!w.running || w.runSeq > last)
}

// put makes the item ready, now or after a delay.
//
// Preconditions: w.q.mu is held; the item is not pending.
func (w *Work) put(after time.Duration) {
	if after <= 0 {
		w.q.push(w)
		return
	}
	w.after, w.due = after, time.Time{}
	w.q.timed[w] = struct{}{}
	w.q.tell()
}

// expire makes the item ready if it waits for its time.
//
// Preconditions: w.q.mu is held.
func (w *Work) expire() {
	if w.after > 0 {
		w.takeBack()
		w.q.push(w)
	}
}

// takeBack makes the item not pending, and reports whether it was.
//
// Preconditions: w.q.mu is held.
func (w *Work) takeBack() bool {
	switch {
	case w.after > 0:
		w.after = 0
		delete(w.q.timed, w)
		return true
	case w.place != nil:
		w.q.ready.Remove(w.place)
		w.place = nil
		w.q.changed.Broadcast()
		return true
	}
	return false
}
