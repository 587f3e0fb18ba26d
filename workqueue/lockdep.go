package workqueue

import (
	"reflect"
	"runtime"

	"slabfs/internal/lockdep"
)

// What lockdep is told: an item that runs holds its queue and itself, exclusively,
// and who waits for either wants it so. Queues have one class for each name, items
// one for each function.

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

// runs tells that this goroutine runs w until the function that it returns is called.
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

// waits tells of a wait for all items of the queue that is about to begin.
//
// Preconditions: q.mu is not held.
func (q *Queue) waits() {
	if lockdep.Enabled() && !q.runsHere(nil) {
		lockdep.Wait(q.class(), q)
	}
}

// flushes tells of a wait for the item that is about to begin, and, in an ordered
// queue, for what is before it.
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

// cancels tells of a wait for the item only, whatever else its queue runs.
//
// Preconditions: w.q.mu is not held.
func (w *Work) cancels() {
	if lockdep.Enabled() && !w.q.runsHere(w) {
		lockdep.Wait(w.class(), w)
	}
}

// runsHere reports whether this goroutine runs w, or, if that is nil, any item of
// the queue: then the wait will be refused.
func (q *Queue) runsHere(w *Work) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	here := q.running[lockdep.Goroutine()]
	return here != nil && (w == nil || w == here)
}
