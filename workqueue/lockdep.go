package workqueue

import (
	"reflect"
	"runtime"

	"slabfs/internal/lockdep"
)

// This file tells lockdep about items. A running item holds its queue and
// itself exclusively. A goroutine that waits for either acquires it
// exclusively. Queues have one class for each name, items one for each
// function.

type (
	queueKey struct{ name string }
	itemKey  struct{ pc uintptr }
)

func (q *Queue) class() *lockdep.Class {
	return lockdep.ClassFor(queueKey{q.name}, func() string { return "(wq_completion)" + q.name })
}

func (w *Work) class() *lockdep.Class {
	pc := reflect.ValueOf(w.fn).Pointer()
	return lockdep.ClassFor(itemKey{pc}, func() string { return "(work_completion)" + runtime.FuncForPC(pc).Name() })
}

// runs tells lockdep that this goroutine runs w until ended is called.
func (w *Work) runs() (ended func()) {
	if !lockdep.Enabled() {
		return func() {}
	}
	q, c := w.q.class(), w.class()
	lockdep.Acquire(q, w.q, lockdep.Exclusive)
	lockdep.Acquire(c, w, lockdep.Exclusive)
	return func() {
		lockdep.Release(c, w)
		lockdep.Release(q, w.q)
	}
}

// waits tells lockdep that a wait for all items of the queue is about to begin.
//
// Preconditions: q.mu is not held.
func (q *Queue) waits() {
	if lockdep.Enabled() && !q.runsHere(nil) {
		lockdep.Wait(q.class(), q)
	}
}

// flushes tells lockdep that a wait for the item is about to begin. In an
// ordered queue it is also a wait for the items before it.
//
// Preconditions: w.q.mu is not held.
func (w *Work) flushes() {
	if !lockdep.Enabled() || w.q.runsHere(nil) {
		return
	}
	if w.q.max == 1 {
		w.q.waits()
	}
	lockdep.Wait(w.class(), w)
}

// cancels tells lockdep that a wait for this item only is about to begin.
//
// Preconditions: w.q.mu is not held.
func (w *Work) cancels() {
	if lockdep.Enabled() && !w.q.runsHere(w) {
		lockdep.Wait(w.class(), w)
	}
}

// runsHere reports whether this goroutine runs w. If w is nil, it reports
// whether this goroutine runs any item of the queue. Then the wait will be
// refused.
func (q *Queue) runsHere(w *Work) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	here := q.running[lockdep.Goroutine()]
	return here != nil && (w == nil || w == here)
}
