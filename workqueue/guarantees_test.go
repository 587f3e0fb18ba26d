package workqueue

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"slabfs/internal/lockdep"
)

// bubble runs f in a synctest bubble with a queue that is destroyed at the
// end. The bubble ends only when no goroutine is left in it.
func bubble(t *testing.T, o Options, f func(t *testing.T, q *Queue)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := New("test", o)
		f(t, q)
		q.Destroy()
	})
}

// mustQueue queues w, waits until nothing moves any more, and fails the test
// unless the queueing was accepted.
func mustQueue(t *testing.T, w *Work) {
	t.Helper()
	if ok, err := w.Queue(); !ok || err != nil {
		t.Fatalf("Queue() = %v, %v; want true", ok, err)
	}
	synctest.Wait()
}

// start runs f in a goroutine and returns a function that reports whether f
// has returned when nothing moves any more.
func start(f func()) (done func() bool) {
	var flag atomic.Bool
	go func() {
		f()
		flag.Store(true)
	}()
	done = func() bool {
		synctest.Wait()
		return flag.Load()
	}
	done()
	return done
}

// expectPanic runs f, which has to panic with a text that holds want.
func expectPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
			t.Errorf("panic: %s; want one that holds %q", got, want)
		}
	}()
	f()
}

// newGate returns an item that, each time it runs, waits for one receive from
// the channel.
func newGate(q *Queue) (*Work, <-chan int) {
	c := make(chan int)
	return q.NewWork(func() { c <- 0 }), c
}

func TestOnce(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, q *Queue) {
		hold, release := newGate(q)
		mustQueue(t, hold)
		written, runs, seen := 0, 0, 0
		w := q.NewWork(func() { runs++; seen = written })
		mustQueue(t, w)
		for i := range 3 {
			written = i + 1 // the race detector checks that the run may read it
			if ok, err := w.Queue(); ok || err != nil {
				t.Errorf("Queue() of a pending item = %v, %v; want false, nil", ok, err)
			}
		}
		<-release
		w.Flush()
		if runs != 1 || seen != 3 {
			t.Errorf("ran %d times and saw %d; want once and 3", runs, seen)
		}
		mustQueue(t, w)
		if w.Flush(); runs != 2 {
			t.Errorf("queued again: ran %d times in all; want 2", runs)
		}
	})
}

func TestNotReentrant(t *testing.T) {
	bubble(t, Options{MaxActive: 4}, func(t *testing.T, q *Queue) {
		var inside, most, runs int
		step := make(chan int)
		w := q.NewWork(func() {
			inside, runs = inside+1, runs+1
			most = max(most, inside)
			step <- 0
			inside--
		})
		mustQueue(t, w) // runs
		mustQueue(t, w) // pending, with three workers free
		<-step
		synctest.Wait() // runs again
		mustQueue(t, w)
		<-step
		<-step
		if w.Flush(); most != 1 || runs != 3 {
			t.Errorf("%d runs, up to %d at a time; want 3, 1", runs, most)
		}
	})
}

func TestConserved(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, q *Queue) {
		hold, release := newGate(q)
		mustQueue(t, hold)
		runs := 0
		w := q.NewWork(func() { runs++ })
		for _, tc := range []struct {
			op   string
			back func() bool
			want bool // taken back
		}{
			{"Cancel", w.Cancel, true},
			{"Cancel", w.Cancel, false},
			{"CancelSync", w.CancelSync, false},
		} {
			if tc.want {
				mustQueue(t, w)
			}
			if got := tc.back(); got != tc.want {
				t.Errorf("%s() = %v; want %v", tc.op, got, tc.want)
			}
		}
		mustQueue(t, w)
		if !w.CancelSync() {
			t.Error("CancelSync() of a pending item = false")
		}
		if _, err := w.QueueAfter(time.Hour); err != nil {
			t.Fatal(err)
		}
		if !w.Cancel() {
			t.Error("Cancel() of an item that waits for its time = false")
		}
		time.Sleep(2 * time.Hour)
		<-release
		q.Drain()
		if runs != 0 {
			t.Errorf("ran %d times after each queueing was taken back", runs)
		}
		mustQueue(t, w)
		if q.Drain(); runs != 1 {
			t.Errorf("ran %d times; want once", runs)
		}
	})
}

func TestOrder(t *testing.T) {
	bubble(t, Options{MaxActive: 2}, func(t *testing.T, q *Queue) {
		var order []string
		step := map[string]chan int{}
		item := map[string]*Work{}
		for _, name := range []string{"a", "b", "c", "d"} {
			step[name] = make(chan int)
			item[name] = q.NewWork(func() { order = append(order, name); step[name] <- 0 })
		}
		expect := func(want ...string) {
			t.Helper()
			if synctest.Wait(); !slices.Equal(order, want) {
				t.Fatalf("started %v; want %v", order, want)
			}
		}
		for _, name := range []string{"a", "b", "a", "c", "d"} {
			mustQueue(t, item[name])
		}
		expect("a", "b")
		<-step["b"] // a is first in the queue, and still runs
		expect("a", "b", "c")
		<-step["a"] // it kept its place before d
		expect("a", "b", "c", "a")
		<-step["c"]
		expect("a", "b", "c", "a", "d")
		<-step["a"]
		<-step["d"]
	})
}

func TestMaxActive(t *testing.T) {
	for _, tc := range []struct{ max, want int }{{0, 1}, {1, 1}, {3, 3}} {
		bubble(t, Options{MaxActive: tc.max}, func(t *testing.T, q *Queue) {
			const items = 7
			inside, most := 0, 0
			step := make(chan int)
			for range items {
				mustQueue(t, q.NewWork(func() {
					inside++
					most = max(most, inside)
					step <- 0
					inside--
				}))
			}
			for range items {
				<-step
				synctest.Wait()
			}
			if most != tc.want {
				t.Errorf("MaxActive %d: %d items at a time; want %d", tc.max, most, tc.want)
			}
		})
	}
	expectPanic(t, "MaxActive is -1", func() { New("test", Options{MaxActive: -1}) })
}

// TestMaxActive1 has items that queue each other from within and from outside:
// with one at a time, the order of the runs is that of the queueings.
func TestMaxActive1(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, q *Queue) {
		var queued, ran []int
		items := make([]*Work, 8)
		queue := func(i int) {
			if ok, _ := items[i].Queue(); ok {
				queued = append(queued, i)
			}
		}
		for i := range items {
			items[i] = q.NewWork(func() {
				ran = append(ran, i)
				if len(ran) < 100 {
					queue((i*5 + len(ran)) % len(items))
					queue((i + 3) % len(items))
				}
			})
		}
		hold, release := newGate(q)
		mustQueue(t, hold)
		for i := range items {
			queue(i)
		}
		<-release
		if q.Drain(); !slices.Equal(ran, queued) || len(ran) < 100 {
			t.Errorf("queued %v\nran    %v", queued, ran)
		}
	})
}

func TestDelay(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, q *Queue) {
		begin := time.Now()
		var runs []time.Duration
		w := q.NewWork(func() { runs = append(runs, time.Since(begin)) })
		check := func(op string, f func(time.Duration) (bool, error), after time.Duration, want bool) {
			t.Helper()
			if got, err := f(after); got != want || err != nil {
				t.Errorf("%s(%v) = %v, %v; want %v, nil", op, after, got, err, want)
			}
		}
		check("QueueAfter", w.QueueAfter, 3*time.Second, true)
		check("QueueAfter", w.QueueAfter, time.Second, false) // does not move it
		check("QueueAfter", w.QueueAfter, 0, false)
		time.Sleep(5 * time.Second)
		check("Mod", w.Mod, 9*time.Second, false) // 14 s
		time.Sleep(time.Second)
		check("Mod", w.Mod, time.Second, true) // 7 s
		time.Sleep(4 * time.Second)            // 10 s
		check("Mod", w.Mod, time.Hour, false)
		check("Mod", w.Mod, 0, true) // 10 s
		synctest.Wait()
		check("QueueAfter", w.QueueAfter, -time.Second, true) // 10 s
		synctest.Wait()

		hold, release := newGate(q)
		mustQueue(t, hold)
		mustQueue(t, w)
		check("Mod", w.Mod, time.Minute, true) // of an item in the queue: 70 s
		<-release
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []time.Duration{3 * time.Second, 7 * time.Second, 10 * time.Second, 10 * time.Second, 70 * time.Second}
		if !slices.Equal(runs, want) {
			t.Errorf("ran at %v; want %v", runs, want)
		}
	})
}

// TestDelayPeriodic has an item that queues itself anew, as those do that
// look after something from time to time.
func TestDelayPeriodic(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, q *Queue) {
		runs := 0
		var w *Work
		w = q.NewWork(func() {
			runs++
			if _, err := w.QueueAfter(time.Minute); err != nil {
				t.Error(err)
			}
		})
		mustQueue(t, w)
		time.Sleep(time.Hour + time.Second)
		if synctest.Wait(); runs != 61 {
			t.Errorf("ran %d times in an hour; want 61", runs)
		}
	})
}

// TestFlushBeforeWorker flushes before the worker had time to come.
func TestFlushBeforeWorker(t *testing.T) {
	for _, tc := range []struct {
		op    string
		flush func(*Work)
	}{
		{"Work.Flush", (*Work).Flush},
		{"Queue.Flush", func(w *Work) { w.q.Flush() }},
		{"Drain", func(w *Work) { w.q.Drain() }},
	} {
		bubble(t, Options{}, func(t *testing.T, q *Queue) {
			ran := false
			w := q.NewWork(func() { ran = true })
			for range 100 {
				ran = false
				if _, err := w.Queue(); err != nil {
					t.Fatal(err)
				}
				if tc.flush(w); !ran {
					t.Fatalf("%s returned before the item ran", tc.op)
				}
			}
		})
	}
}

func TestFlushItem(t *testing.T) {
	bubble(t, Options{MaxActive: 2}, func(t *testing.T, q *Queue) {
		w, release := newGate(q)
		w.Flush() // never queued: nothing to wait for

		mustQueue(t, w)
		first := start(w.Flush) // waits for the run
		mustQueue(t, w)
		second := start(w.Flush) // waits for the run to come
		other, releaseOther := newGate(q)
		mustQueue(t, other)
		if first() || second() {
			t.Error("flushed while the item runs")
		}
		<-release
		if !first() || second() {
			t.Errorf("after the first run: first flush done %v, second %v; want true, false", first(), second())
		}
		mustQueue(t, w)
		<-release
		if !second() {
			t.Error("the second flush waits for what was queued after it, or for another item")
		}
		<-release
		<-releaseOther

		if _, err := w.QueueAfter(time.Hour); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		timed := start(w.Flush)
		<-release
		if !timed() || time.Since(begin) != 0 {
			t.Errorf("flush of an item that waits for its time: done %v after %v; want it to run at once", timed(), time.Since(begin))
		}

		mustQueue(t, w)
		mustQueue(t, w)
		both := start(w.Flush)
		w.Cancel()
		if both() {
			t.Error("flushed while the item runs, since the later queueing was taken back")
		}
		<-release
		if !both() {
			t.Error("the flush waits for a queueing that was taken back")
		}
	})
}

func TestFlushQueue(t *testing.T) {
	bubble(t, Options{MaxActive: 2}, func(t *testing.T, q *Queue) {
		q.Flush() // empty
		a, releaseA := newGate(q)
		b, releaseB := newGate(q)
		c, releaseC := newGate(q)
		late, releaseLate := newGate(q)
		timed, releaseTimed := newGate(q)
		for _, w := range []*Work{a, b, c} {
			mustQueue(t, w)
		}
		if _, err := timed.QueueAfter(time.Hour); err != nil {
			t.Fatal(err)
		}
		done := start(q.Flush)
		mustQueue(t, late)
		mustQueue(t, a) // again
		<-releaseA
		<-releaseB
		if done() {
			t.Error("flushed while c runs")
		}
		<-releaseC
		if !done() {
			t.Error("the flush waits for what was queued after it, or for a timer")
		}
		<-releaseLate
		<-releaseA
		time.Sleep(time.Hour)
		<-releaseTimed
	})
}

func TestCancelSync(t *testing.T) {
	bubble(t, Options{MaxActive: 2}, func(t *testing.T, q *Queue) {
		runs := 0
		step := make(chan int)
		var again error
		var w *Work
		w = q.NewWork(func() {
			runs++
			step <- 0
			if runs == 1 {
				_, again = w.Queue()
			}
		})
		if w.CancelSync() {
			t.Error("CancelSync() of an item that was never queued = true")
		}
		mustQueue(t, w)
		mustQueue(t, w)
		var was [2]bool
		one := start(func() { was[0] = w.CancelSync() })
		two := start(func() { was[1] = w.CancelSync() })
		if one() || two() {
			t.Error("CancelSync returned while the item runs")
		}
		for _, queue := range []func() (bool, error){
			w.Queue,
			func() (bool, error) { return w.QueueAfter(time.Second) },
			func() (bool, error) { return w.Mod(time.Second) },
		} {
			if ok, err := queue(); ok || !errors.Is(err, ErrCanceled) {
				t.Errorf("queueing while CancelSync waits = %v, %v; want %v", ok, err, ErrCanceled)
			}
		}
		<-step
		if !one() || !two() || !was[0] || was[1] {
			t.Errorf("CancelSync: done %v, %v, taken back %v; want true, true, [true false]", one(), two(), was)
		}
		if runs != 1 || !errors.Is(again, ErrCanceled) {
			t.Errorf("ran %d times, queueing itself got %v; want once, %v", runs, again, ErrCanceled)
		}
		mustQueue(t, w) // it can be queued again
		<-step
		if w.Flush(); runs != 2 {
			t.Errorf("ran %d times; want twice", runs)
		}
	})
}

func TestDrain(t *testing.T) {
	bubble(t, Options{MaxActive: 2}, func(t *testing.T, q *Queue) {
		q.Drain() // empty
		left := 3
		step := make(chan int)
		var w *Work
		w = q.NewWork(func() {
			step <- 0
			if left--; left > 0 {
				if ok, err := w.Queue(); !ok || err != nil {
					t.Errorf("an item queues itself during Drain: %v, %v; want true", ok, err)
				}
			}
		})
		other := q.NewWork(func() {})
		timed, releaseTimed := newGate(q)
		if _, err := timed.QueueAfter(time.Second); err != nil {
			t.Fatal(err)
		}
		never := q.NewWork(func() { t.Error("ran before its time") })
		if _, err := never.QueueAfter(time.Hour); err != nil {
			t.Fatal(err)
		}
		mustQueue(t, w)
		one, two := start(q.Drain), start(q.Drain)
		if ok, err := other.Queue(); ok || !errors.Is(err, ErrDraining) {
			t.Errorf("Queue() during Drain = %v, %v; want false, %v", ok, err, ErrDraining)
		}
		if ok, err := never.Mod(0); !ok || !errors.Is(err, ErrDraining) {
			t.Errorf("Mod() during Drain = %v, %v; want true, %v", ok, err, ErrDraining)
		}
		if ok, err := w.Queue(); ok || !errors.Is(err, ErrDraining) {
			t.Errorf("Queue() of the item that runs = %v, %v; want false, %v", ok, err, ErrDraining)
		}
		time.Sleep(2 * time.Second) // the timer adds its item
		for range 3 {
			<-step
		}
		if one() || two() {
			t.Error("drained while an item runs")
		}
		<-releaseTimed
		if !one() || !two() {
			t.Error("Drain does not return though the queue is empty")
		}
		mustQueue(t, other) // it can be queued again
	})
}

func TestDestroy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New("test", Options{MaxActive: 2})
		chain := 0
		step := make(chan int)
		var late error
		var w *Work
		w = q.NewWork(func() {
			step <- 0
			if chain++; chain < 3 {
				_, late = w.QueueAfter(time.Second)
				if ok, err := w.Queue(); !ok || err != nil {
					t.Errorf("an item queues itself during Destroy: %v, %v; want true", ok, err)
				}
			}
		})
		timed := q.NewWork(func() { t.Error("an item ran though Destroy took it back") })
		if _, err := timed.QueueAfter(time.Hour); err != nil {
			t.Fatal(err)
		}
		mustQueue(t, w)
		one, two := start(q.Destroy), start(q.Destroy)
		for range 3 {
			if one() || two() {
				t.Error("destroyed while an item runs")
			}
			if ok, err := timed.Queue(); ok || !errors.Is(err, ErrDestroyed) {
				t.Errorf("Queue() during Destroy = %v, %v; want false, %v", ok, err, ErrDestroyed)
			}
			<-step
		}
		if !one() || !two() {
			t.Error("Destroy does not return though the queue is empty")
		}
		if !errors.Is(late, ErrDestroyed) {
			t.Errorf("an item queues itself for later during Destroy: %v; want %v", late, ErrDestroyed)
		}
		time.Sleep(2 * time.Hour)
		for _, queue := range []func() (bool, error){
			w.Queue,
			func() (bool, error) { return w.QueueAfter(time.Second) },
			func() (bool, error) { return w.Mod(time.Second) },
		} {
			if ok, err := queue(); ok || !errors.Is(err, ErrDestroyed) || !strings.Contains(err.Error(), `"test"`) {
				t.Errorf("queueing after Destroy = %v, %v; want false, %v", ok, err, ErrDestroyed)
			}
		}
		w.Flush()
		w.CancelSync()
		q.Flush()
		q.Drain()
		q.Destroy()
	})
}

// TestDestroyLeavesNoGoroutine is for the workers of real time; the other tests
// have their bubble, which does not end while a goroutine is left in it.
func TestDestroyLeavesNoGoroutine(t *testing.T) {
	q := New("test", Options{MaxActive: 8})
	for i := range 100 {
		w := q.NewWork(func() { runtime.Gosched() })
		if _, err := w.QueueAfter(time.Duration(i%3) * time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	q.Destroy()
	// A worker's last act is to say that it ends.
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !strings.Contains(string(stacks), "workqueue.(*Queue).work(") && !strings.Contains(string(stacks), "workqueue.(*Queue).home(") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a worker is left after Destroy:\n%s", stacks)
		}
	}
}

func TestSelfWait(t *testing.T) {
	for _, tc := range []struct {
		op, want string
		wait     func(q *Queue, self, other *Work)
	}{
		{"cancel", "from within waits for itself", func(q *Queue, self, other *Work) { self.CancelSync() }},
		{"flush", `queue "test" waits for itself`, func(q *Queue, self, other *Work) { self.Flush() }},
		{"flush other", `queue "test" waits for itself`, func(q *Queue, self, other *Work) { other.Flush() }},
		{"flush queue", `queue "test" waits for itself`, func(q *Queue, self, other *Work) { q.Flush() }},
		{"drain", `queue "test" waits for itself`, func(q *Queue, self, other *Work) { q.Drain() }},
		{"destroy", `queue "test" waits for itself`, func(q *Queue, self, other *Work) { q.Destroy() }},
	} {
		t.Run(tc.op, func(t *testing.T) {
			bubble(t, Options{}, func(t *testing.T, q *Queue) {
				elsewhere := New("elsewhere", Options{})
				defer elsewhere.Destroy()
				other := q.NewWork(func() {})
				ran := 0
				var self *Work
				self = q.NewWork(func() {
					ran++
					expectPanic(t, tc.want, func() { tc.wait(q, self, other) })
					mustRun := elsewhere.NewWork(func() { ran++ })
					mustRun.Queue()
					mustRun.Flush() // another queue can be waited for
					other.Queue()
					if !other.CancelSync() { // and another item can be cancelled
						t.Error("CancelSync() of another item, which is pending = false")
					}
				})
				mustQueue(t, self)
				if self.Flush(); ran != 2 {
					t.Errorf("%d items ran; want 2", ran)
				}
			})
		})
	}
}

func TestPanic(t *testing.T) {
	if os.Getenv("WORKQUEUE_TEST_PANIC") != "" {
		q := New("test", Options{})
		q.NewWork(func() { panic("from an item") }).Queue()
		q.Drain()
		time.Sleep(time.Minute)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPanic$")
	cmd.Env = append(os.Environ(), "WORKQUEUE_TEST_PANIC=1")
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"panic: from an item", "workqueue.TestPanic.func"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("a program with a panic in an item ends with %v and no %q:\n%s", err, want, out)
		}
	}
}

func TestGoexit(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, q *Queue) {
		ran := false
		hold, release := newGate(q)
		mustQueue(t, hold)
		mustQueue(t, q.NewWork(runtime.Goexit))
		mustQueue(t, q.NewWork(func() { ran = true }))
		<-release
		if q.Drain(); !ran {
			t.Error("an item did not run, since the one before it called runtime.Goexit")
		}
	})
}

func TestItemsAreCallbacks(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, q *Queue) {
		in := false
		w := q.NewWork(func() { in = lockdep.InCallback() })
		mustQueue(t, w)
		if w.Flush(); !in {
			t.Error("InCallback() in an item = false")
		}
	})
}
