package workqueue

import (
	"testing"
	"time"
)

// BenchmarkQueue measures a queueing and its run, beside what a plain
// goroutine costs.
func BenchmarkQueue(b *testing.B) {
	b.Run("go", func(b *testing.B) {
		done := make(chan int)
		for b.Loop() {
			go func() { done <- 0 }()
			<-done
		}
	})
	b.Run("idle", func(b *testing.B) { // the worker is started each time
		q := New("bench", Options{})
		done := make(chan int)
		w := q.NewWork(func() { done <- 0 })
		for b.Loop() {
			w.Flush() // the last worker may be about to end
			w.Queue()
			<-done
		}
		q.Destroy()
	})
	b.Run("busy", func(b *testing.B) { // one worker runs everything
		q := New("bench", Options{})
		n := 0
		var w *Work
		w = q.NewWork(func() {
			if n++; n < b.N {
				w.Queue()
			}
		})
		b.ResetTimer()
		w.Queue()
		q.Drain()
		q.Destroy()
	})
	b.Run("pending", func(b *testing.B) { // nothing to do: it is queued already
		q := New("bench", Options{})
		w := q.NewWork(func() {})
		if _, err := w.QueueAfter(time.Hour); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			w.Queue()
		}
		q.Destroy()
	})
	b.Run("mod", func(b *testing.B) {
		q := New("bench", Options{})
		w := q.NewWork(func() {})
		for b.Loop() {
			if _, err := w.Mod(time.Hour); err != nil {
				b.Fatal(err)
			}
		}
		q.Destroy()
	})
}
