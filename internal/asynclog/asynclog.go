package asynclog

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// room is how many lines wait at most.
const room = 1000

// A Handler hands lines on to another one.
type Handler struct {
	next  slog.Handler
	queue *queue // of all handlers that come from one
}

// A queue has what is to be done by one goroutine, in order. It takes no lock:
// who logs may hold any.
type queue struct {
	lost    func(n uint64) // says so
	waiting chan func()
	running atomic.Bool   // A: the goroutine is there
	dropped atomic.Uint64 // A: in all
	told    uint64        // the goroutine's: of these, how many lost was told of
}

// New returns a handler in front of next, or next itself if it is one.
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

// Handle implements slog.Handler. It does not wait.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	r = r.Clone()
	h.Do(func() { _ = h.next.Handle(context.Background(), r) })
	return nil
}

// Do has f run in its turn among the lines, for what writes to the same place.
// If there is no room it is dropped.
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

// run does what waits, until nothing does.
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

// tell says how many lines were dropped since it last said so.
func (q *queue) tell() {
	if n := q.dropped.Load() - q.told; n > 0 {
		q.told += n
		q.lost(n)
	}
}

// Dropped returns how many lines were dropped.
func (h *Handler) Dropped() uint64 { return h.queue.dropped.Load() }

// Flush waits until all lines are written that were logged before, atMost that
// long.
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
