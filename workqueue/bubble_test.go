package workqueue

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A queue that was made outside of a bubble is used inside, and outside again:
// whatever was begun inside goes on when the bubble has ended.
func TestBubble(t *testing.T) {
	q := New("outside", Options{MaxActive: 2})
	ran := make(chan string, 10)
	gate, inside := make(chan struct{}), make(chan struct{})
	slow := q.NewWork(func() { close(inside); <-gate; ran <- "slow" })
	soon := q.NewWork(func() { ran <- "soon" })
	late := q.NewWork(func() { ran <- "late" })
	mustRun := func(want string) {
		t.Helper()
		select {
		case got := <-ran:
			if got != want {
				t.Errorf("%s ran; want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s does not run", want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		mustAccept := func(ok bool, err error) {
			t.Helper()
			if !ok || err != nil {
				t.Errorf("queueing in a bubble: %v, %v", ok, err)
			}
		}
		mustAccept(late.QueueAfter(time.Hour))
		late.Flush() // runs it now
		mustAccept(late.QueueAfter(time.Hour))
		if !late.CancelSync() {
			t.Error("CancelSync of an item that waits for its time = false")
		}
		mustAccept(late.QueueAfter(time.Hour))
		mustAccept(soon.QueueAfter(time.Millisecond))
		mustAccept(slow.Queue())
	}) // it ends, though a worker runs, and timers do
	mustRun("late")
	mustRun("soon")
	<-inside
	synctest.Test(t, func(t *testing.T) {
		go close(gate)
		slow.Flush() // woken from outside
		if !slow.q.idle() {
			t.Error("the flush did not wait")
		}
	})
	mustRun("slow")
	if was, err := late.Mod(time.Millisecond); !was || err != nil {
		t.Errorf("Mod of an item that was queued in a bubble = %v, %v; want true", was, err)
	}
	mustRun("late")
	if _, err := late.QueueAfter(time.Hour); err != nil {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		q.Drain()
		q.Destroy()
		if _, err := late.Queue(); !errors.Is(err, ErrDestroyed) {
			t.Errorf("Queue after Destroy: %v", err)
		}
	})
	q.Destroy()
}

// A time that an item waits is that of the queue's home, not of the bubble.
func TestBubbleDelay(t *testing.T) {
	q := New("outside", Options{})
	defer q.Destroy()
	ran := make(chan struct{}, 1)
	w := q.NewWork(func() { ran <- struct{}{} })
	synctest.Test(t, func(t *testing.T) {
		if _, err := w.QueueAfter(time.Hour); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour) // at once
		select {
		case <-ran:
			t.Error("the item ran by the clock of a bubble that it does not belong to")
		default:
		}
	})
	if !w.Cancel() {
		t.Error("the item no longer waits for its time")
	}
}
