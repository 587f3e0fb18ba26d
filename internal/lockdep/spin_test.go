package lockdep

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSpin(t *testing.T) {
	bothModes(t, func(t *testing.T) {
		var s Spin
		s.Init(PerCPU)
		if s.Class() != PerCPU {
			t.Errorf("class = %q; want %q", s.Class().Name(), PerCPU.Name())
		}
		for range 2 {
			if !s.TryLock() {
				t.Fatal("TryLock of a free Spin = false")
			}
			if s.TryLock() {
				t.Fatal("TryLock of a held Spin = true")
			}
			s.Unlock()
			s.Lock()
			if s.TryLock() {
				t.Fatal("TryLock after Lock = true")
			}
			s.Unlock()
		}
	})
}

// Many more goroutines than CPUs, some of which let others run while they hold the lock.
func TestSpinExcludes(t *testing.T) {
	const goroutines, each = 16, 3000
	bothModes(t, func(t *testing.T) {
		var s Spin
		s.Init(Leaf)
		var wg sync.WaitGroup
		n, words := 0, [2]int{}
		for g := range goroutines {
			wg.Go(func() {
				for i := range each {
					s.Lock()
					n++
					words[0]++
					if (g+i)%64 == 0 {
						runtime.Gosched()
					}
					words[1]++
					if words[0] != words[1] {
						t.Errorf("two goroutines hold the lock")
					}
					s.Unlock()
				}
			})
		}
		wg.Wait()
		if n != goroutines*each {
			t.Errorf("%d sections; want %d", n, goroutines*each)
		}
	})
}

// What was written under the lock is seen by the next holder: the store that releases
// comes last, and the section's loads come before it.
func TestSpinPublishes(t *testing.T) {
	const rounds = 100_000
	var s Spin
	s.Init(Leaf)
	var wg sync.WaitGroup
	var lines [8][8]int // each in a cache line of its own
	for range 2 {
		wg.Go(func() {
			for range rounds {
				s.Lock()
				want := lines[0][0]
				for i := range lines {
					if got := lines[i][0]; got != want {
						t.Errorf("word %d is %d; want %d, as word 0", i, got, want)
					}
					lines[i][0]++
				}
				s.Unlock()
			}
		})
	}
	wg.Wait()
	if got := lines[7][0]; got != 2*rounds {
		t.Errorf("%d increments; want %d", got, 2*rounds)
	}
}

// Who waits gets the lock from holders that take it again at once, and from ones
// that sleep with it.
func TestSpinWaiterGetsIt(t *testing.T) {
	for _, procs := range []int{1, 2} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			var s Spin
			s.Init(Leaf)
			var stop atomic.Bool
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					for i := 0; !stop.Load(); i++ {
						s.Lock()
						if i%1000 == 0 {
							time.Sleep(time.Millisecond)
						}
						s.Unlock()
					}
				})
			}
			for range 50 {
				s.Lock()
				s.Unlock()
			}
			stop.Store(true)
			wg.Wait()
		}()
	}
}

func BenchmarkSpin(b *testing.B) {
	var m Mutex
	var s Spin
	b.Run("mutex", func(b *testing.B) {
		for b.Loop() {
			m.Lock()
			m.Unlock()
		}
	})
	b.Run("spin", func(b *testing.B) {
		for b.Loop() {
			s.Lock()
			s.Unlock()
		}
	})
}
