package workqueue

import (
	"container/list"
	"errors"
	"fmt"
	"time"

	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
)

// Reasons why a queueing is refused. A refused queueing does not run the item.
var (
	ErrDestroyed = errors.New("the work queue is destroyed")
	ErrDraining  = errors.New("the work queue is being drained")
	ErrCanceled  = errors.New("the work item is being cancelled")
)

// Options of a queue. The zero value makes an ordered queue.
type Options struct {
	MaxActive int // how many items run at a time; 0 means 1: one after the other
}

// A Queue runs work items.
//
// Protection of fields:
//
//	I  set by New, then constant
//	L  mu
type Queue struct {
	name string // I
	max  int    // I: Options.MaxActive

	poke  chan struct{} // I: wakes the home
	ended chan struct{} // I: closed when the home has ended

	mu        lockdep.Mutex
	changed   *lockdep.Cond      // I: over mu; an item or worker ended, or an item left
	ready     list.List          // L: of *Work, ordered by seq
	timed     map[*Work]struct{} // L: items that wait for their time
	running   map[uintptr]*Work  // L: the item that each worker runs, by goroutine
	workers   int                // L
	starts    int                // L: workers to start; starts + workers > 0 if ready has items
	seq       uint64             // L: how many times an item was put on ready
	draining  int                // L: current calls of Drain
	destroyed bool               // L
}

// New returns a queue without items. The name is for messages. The queue has a
// goroutine, which Destroy ends.
func New(name string, o Options) *Queue {
	if o.MaxActive < 0 {
		panic(fmt.Sprintf("workqueue: new queue %q: MaxActive is %d", name, o.MaxActive))
	}
	q := &Queue{
		name:    name,
		max:     max(o.MaxActive, 1),
		poke:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		timed:   make(map[*Work]struct{}),
		running: make(map[uintptr]*Work),
	}
	q.mu.Init(lockdep.Workqueue)
	q.changed = lockdep.NewCond(&q.mu)
	go q.home()
	return q
}

// Name returns the name that was given to New.
func (q *Queue) Name() string { return q.name }

// Flush waits until everything that was queued before the call has run. An item
// that still waits for its time is not queued yet. Flush panics inside an item
// of the queue.
func (q *Queue) Flush() {
	q.waits()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mustNotBeWorker("flush")
	for last := q.seq; !q.settled(last); {
		q.changed.Wait()
	}
}

// Drain waits until the queue is empty and nothing runs. It also waits for what
// items queue during the call. Until then, queueing by others fails with
// ErrDraining; only timers that were set before may still add their items.
// Drain does not wait for timers that expire later. It panics inside an item of
// the queue.
func (q *Queue) Drain() {
	q.waits()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mustNotBeWorker("drain")
	q.draining++
	for !q.idle() {
		q.changed.Wait()
	}
	q.draining--
}

// Destroy is Drain for good. It takes back the items that wait for their time,
// and queueing fails with ErrDestroyed from then on. (Items that still run may
// queue, but without a delay.) Destroy may be called more than once: each call
// returns when nothing is left. It panics inside an item of the queue.
func (q *Queue) Destroy() {
	q.waits()
	q.destroy()
	<-q.ended
}

func (q *Queue) destroy() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mustNotBeWorker("destroy")
	q.destroyed = true
	for w := range q.timed {
		w.takeBack()
	}
	q.tell()
}

// idle reports whether no item is ready and none runs.
//
// Preconditions: q.mu is held.
func (q *Queue) idle() bool { return q.workers == 0 && q.ready.Len() == 0 }

// mustNotBeWorker panics if this goroutine runs an item of the queue, because
// the wait that is about to begin might never end.
//
// Preconditions: q.mu is held.
func (q *Queue) mustNotBeWorker(op string) {
	if q.isWorker() {
		panic(fmt.Sprintf("workqueue: %s from within an item of queue %q waits for itself", op, q.name))
	}
}

// isWorker reports whether this goroutine runs an item of the queue.
//
// Preconditions: q.mu is held.
func (q *Queue) isWorker() bool { return q.running[lockdep.Goroutine()] != nil }

// settled reports whether everything with a number up to last has run or was
// taken back.
//
// Preconditions: q.mu is held.
func (q *Queue) settled(last uint64) bool {
	if first := q.ready.Front(); first != nil && first.Value.(*Work).seq <= last {
		return false
	}
	for _, w := range q.running {
		if w.runSeq <= last {
			return false
		}
	}
	return true
}

// refusal returns why w may not be queued now, or nil.
//
// Preconditions: q.mu is held.
func (q *Queue) refusal(w *Work, after time.Duration) error {
	switch {
	case w.canceling > 0:
		return fmt.Errorf("queue work on %q: %w", q.name, ErrCanceled)
	case q.destroyed && (after > 0 || !q.isWorker()):
		return fmt.Errorf("queue work on %q: %w", q.name, ErrDestroyed)
	case q.draining > 0 && !q.isWorker():
		return fmt.Errorf("queue work on %q: %w", q.name, ErrDraining)
	}
	return nil
}

// push makes w ready, and starts a worker for it if necessary.
//
// Preconditions: q.mu is held; w is not pending.
func (q *Queue) push(w *Work) {
	q.seq++
	w.seq = q.seq
	w.place = q.ready.PushBack(w)
	if !w.running { // otherwise the worker that runs it takes it again
		q.startWorker()
	}
}

// startWorker makes the home start a worker.
//
// Preconditions: q.mu is held.
func (q *Queue) startWorker() {
	q.starts++
	q.tell()
}

// work is a worker: it runs items until none is left.
func (q *Queue) work() {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer func() {
		q.workers--
		if q.next() != nil { // the item ended this goroutine
			q.startWorker()
		}
		q.changed.Broadcast()
		if q.destroyed {
			q.tell()
		}
	}()
	for w := q.next(); w != nil; w = q.next() {
		q.run(w)
	}
}

// next returns the first item that can run, or nil.
//
// Preconditions: q.mu is held.
func (q *Queue) next() *Work {
	for e := q.ready.Front(); e != nil; e = e.Next() {
		if w := e.Value.(*Work); !w.running {
			return w
		}
	}
	return nil
}

// run runs w. It releases the lock while w's function runs.
//
// Preconditions: q.mu is held; w is ready and not running.
func (q *Queue) run(w *Work) {
	worker := lockdep.Goroutine()
	q.ready.Remove(w.place)
	w.place, w.running, w.runSeq = nil, true, w.seq
	q.running[worker] = w
	if invariants.Enabled && (len(q.running) > q.workers || q.workers > q.max) {
		panic(fmt.Sprintf("workqueue: queue %q runs %d items on %d workers, of at most %d", q.name, len(q.running), q.workers, q.max))
	}
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		w.running = false
		delete(q.running, worker)
		q.changed.Broadcast()
	}()
	defer w.runs()()
	defer lockdep.Callback()()
	w.fn()
}
