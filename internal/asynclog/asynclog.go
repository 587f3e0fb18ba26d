package asynclog

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// room is the most lines that wait.
const room = 1000

// A Handler passes lines on to another Handler without waiting.
type Handler struct {
	next  slog.Handler
	queue *queue // shared by all handlers derived from one
}

// A queue has the functions that one goroutine runs, in order. It takes no
// lock, because a caller that logs may hold any lock.
type queue struct {
	lost    func(n uint64) // logs that n lines were dropped
	waiting chan func()
	running atomic.Bool   // A: the goroutine runs
	dropped atomic.Uint64 // A: lines dropped in all
	told    uint64        // used by the goroutine only: how many of them lost has logged
}

// New returns a Handler in front of next. If next is a Handler already, New
// returns next.
func New(next slog.Handler) *Handler {
	if h, ok := next.(*Handler); ok {
		return h
	}
	q := &queue{waiting: make(chan func(), room)}
	q.lost = func(n uint64) {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were dropped: they came faster than they could be written", 0)
		r.AddAttrs(slog.Uint64("lines", n))
		_ = next.Handle(context.Background(), r)
	}
	return &Handler{next, q}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.queue}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.queue}
}

// Handle implements slog.Handler. It does not wait, and always returns nil.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	r = r.Clone()
	h.Do(func() { _ = h.next.Handle(context.Background(), r) })
	return nil
}

// Do runs f in its turn among the lines. It is for functions that write to the
// same place as the log. If the queue is full, f is dropped and counted as a
// line.
func (h *Handler) Do(f func()) {
	select {
	case h.queue.waiting <- f:
		h.queue.start()
	default:
		h.queue.dropped.Add(1)
	}
}

func (q *queue) start() {
	if q.running.CompareAndSwap(false, true) {
		go q.run()
	}
}

// run runs the waiting functions until none is left.
func (q *queue) run() {
	for {
		select {
		case f := <-q.waiting:
			f()
			continue
		default:
		}
		q.tell()
		q.running.Store(false)
		if len(q.waiting) == 0 || !q.running.CompareAndSwap(false, true) {
			return
		}
	}
}

// tell logs how many lines were dropped since it last did so.
func (q *queue) tell() {
	if n := q.dropped.Load() - q.told; n > 0 {
		q.told += n
		q.lost(n)
	}
}

// Dropped returns how many lines were dropped so far.
func (h *Handler) Dropped() uint64 { return h.queue.dropped.Load() }

// Flush waits until all lines logged before the call are written, but at most
// atMost.
func (h *Handler) Flush(atMost time.Duration) {
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	flushed := make(chan struct{})
	select {
	case h.queue.waiting <- func() { h.queue.tell(); close(flushed) }:
		h.queue.start()
	case <-timeout.C:
		return
	}
	select {
	case <-flushed:
	case <-timeout.C:
	}
}
