package bench

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

var began = time.Now()

// threadTime returns how long this thread has run on a CPU.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return time.Since(began)
	}
	return time.Duration(t.Nano())
}

// stopwatch returns how long f has a CPU. On an idle machine that is the
// elapsed time. On a busy machine, most of the elapsed time belongs to other
// programs.
func stopwatch(f func()) (t time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	somewhere(func() {
		start := threadTime()
		f()
		t = threadTime() - start
	})
	return t
}

// somewhere calls f with its stack at a different place in a page each time. If
// a hot word of the stack has the same page offset as a hot word elsewhere, the
// processor takes a load of one for dependent on a store to the other. A pair
// then takes up to twice as long.
func somewhere(f func()) { below(rand.IntN(pageSize/frame), f) }

const (
	pageSize = 4096
	frame    = 32 // about the frame size of below, in bytes
)

// below calls f n frames further down. Each call has a frame, because it uses
// the result of the next.
func below(n int, f func()) int {
	if n == 0 {
		f()
		return 0
	}
	return below(n-1, f) + 1
}

// calibrate finds out how many operations take d, and thereby warms the cell. A
// long run may have included the first page fault or a disturbance, so the
// shorter of two runs counts.
func (c *cell) calibrate(d time.Duration, run func(n int) time.Duration) {
	for n := 1; c.n == 0; n *= 2 {
		t := run(n)
		if t > d/4 {
			t = min(t, run(n))
		}
		if t > d/4 {
			c.n = max(int(float64(n)*float64(d)/float64(t)), 1)
		}
	}
}

// timeLoop returns a cell's measure of a loop on one goroutine. The loop does n
// operations, with count objects each.
func (c *cell) timeLoop(count int, loop func(n int)) func(time.Duration) ([]float64, error) {
	return c.timeParts(count, 1, func(n int, parts []time.Duration) {
		parts[0] += stopwatch(func() { loop(n) })
	})
}

// timeParts returns a cell's measure of a loop that adds up the time of each
// part of its n operations itself.
func (c *cell) timeParts(count, parts int, loop func(n int, parts []time.Duration)) func(time.Duration) ([]float64, error) {
	return func(d time.Duration) ([]float64, error) {
		spent := make([]time.Duration, parts)
		run := func(n int) (sum time.Duration) {
			clear(spent)
			loop(n, spent)
			for _, t := range spent {
				sum += t
			}
			return sum
		}
		c.calibrate(d, run)
		run(c.n)
		values := make([]float64, parts)
		for i, t := range spent {
			values[i] = float64(t) / float64(c.n) / float64(count)
		}
		return values, nil
	}
}

// timeRun returns a cell's measure of a run, by the clock. The run works for a
// time and returns how many operations it did. It gets ten times as long as a
// loop, because goroutines that come, go and wait need it.
func (c *cell) timeRun(run func(time.Duration) (int, error)) func(time.Duration) ([]float64, error) {
	return func(d time.Duration) ([]float64, error) {
		began := time.Now()
		n, err := run(10 * d)
		c.n = n
		return []float64{float64(time.Since(began)) / float64(n)}, err
	}
}

// together lets several goroutines work at once until wait returns. It returns
// how many operations they did together, and how many in a second. Each
// goroutine gets its loop from begin, and does chunk operations at a time.
func together(goroutines, chunk int, begin func() func(n int), wait func()) (n int, rate float64) {
	var (
		stop atomic.Bool
		done atomic.Int64
		wg   sync.WaitGroup
	)
	start := make(chan struct{})
	for range goroutines {
		loop := begin()
		wg.Go(func() {
			<-start
			somewhere(func() {
				for more := true; more; more = !stop.Load() {
					loop(chunk)
					done.Add(int64(chunk))
				}
			})
		})
	}
	began := time.Now()
	close(start)
	wait()
	stop.Store(true)
	wg.Wait()
	return int(done.Load()), float64(done.Load()) / time.Since(began).Seconds()
}

// sleep returns a wait function for together.
func sleep(d time.Duration) func() { return func() { time.Sleep(d) } }

// chunk is how many operations a goroutine does before it checks for the end.
const chunk = 1024

// newRand returns a source of random numbers for one goroutine.
func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }
