package workqueue

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStress has goroutines do everything at once with a few items, which also
// queue themselves and each other. Each item must run exactly as often as it
// was queued and not taken back, never twice at a time, and no more items at a
// time than the queue allows.
func TestStress(t *testing.T) {
	const goroutines, items, operations, maxActive = 6, 8, 4000, 3
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	q := New("stress", Options{MaxActive: maxActive})
	var active atomic.Int64
	var stop atomic.Bool
	var all [items]struct {
		*Work
		queued, back, runs, inside atomic.Int64
	}
	accept := func(i int, queued bool, err error) {
		switch {
		case err == nil && queued:
			all[i].queued.Add(1)
		case err != nil && !errors.Is(err, ErrCanceled) && !errors.Is(err, ErrDraining):
			t.Errorf("queue item %d: %v", i, err)
		}
	}
	for i := range all {
		all[i].Work = q.NewWork(func() {
			if n := all[i].inside.Add(1); n != 1 {
				t.Errorf("item %d runs %d times at once", i, n)
			}
			if n := active.Add(1); n > maxActive {
				t.Errorf("%d items run at once; want %d at most", n, maxActive)
			}
			switch n := all[i].runs.Add(1); {
			case stop.Load():
			case n%16 == 0:
				ok, err := all[i].Queue()
				accept(i, ok, err)
			case n%16 == 1:
				other := (i + 1) % items
				ok, err := all[other].QueueAfter(time.Duration(n) * time.Nanosecond)
				accept(other, ok, err)
			case n%16 == 2:
				time.Sleep(time.Microsecond)
			}
			active.Add(-1)
			all[i].inside.Add(-1)
		})
	}
	var wg sync.WaitGroup
	for g := range goroutines {
		r := rand.New(rand.NewPCG(seed, uint64(g)))
		wg.Go(func() {
			for range operations {
				i := r.IntN(items)
				w := &all[i]
				switch op := r.IntN(100); {
				case op < 60:
					ok, err := w.Queue()
					accept(i, ok, err)
				case op < 70:
					ok, err := w.QueueAfter(time.Duration(r.IntN(1000)) * time.Microsecond)
					accept(i, ok, err)
				case op < 80:
					was, err := w.Mod(time.Duration(r.IntN(100)) * time.Microsecond)
					accept(i, !was, err) // else it was accepted before
				case op < 86:
					if w.Cancel() {
						w.back.Add(1)
					}
				case op < 92:
					if w.CancelSync() {
						w.back.Add(1)
					}
				case op < 97:
					w.Flush()
				case op < 99:
					q.Flush()
				default:
					q.Drain()
				}
			}
		})
	}
	wg.Wait()
	stop.Store(true)
	q.Drain() // from here on no item queues another, but timers may run still
	for i := range all {
		if all[i].CancelSync() {
			all[i].back.Add(1)
		}
	}
	q.Destroy()
	for i := range all {
		w := &all[i]
		if queued, back, runs := w.queued.Load(), w.back.Load(), w.runs.Load(); queued != back+runs || runs == 0 {
			t.Errorf("item %d: queued %d times = %d taken back + %d runs? want equal", i, queued, back, runs)
		}
	}
}
