package lockdep

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A tortured lock returns whether it was taken; it may give up.
type tortured struct {
	name         string
	write, read  func(*rand.Rand) bool // read: nil where there are no readers
	unwrite, un  func()
	wantViolated bool
}

// never is the lock that excludes nobody: what checks locks must notice it.
var never = tortured{
	name:         "busted",
	write:        func(*rand.Rand) bool { return true },
	read:         func(*rand.Rand) bool { return true },
	unwrite:      func() {},
	un:           func() {},
	wantViolated: true,
}

// TestTorture has two writers and two readers for each CPU take a lock over
// and over, with rare long holds, and looks who else is in.
func TestTorture(t *testing.T) {
	bothModes(t, func(t *testing.T) {
		var m Mutex
		var s, i RWSem
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		for _, l := range []tortured{
			{
				name:    "Mutex",
				write:   func(*rand.Rand) bool { m.Lock(); return true },
				unwrite: m.Unlock,
			},
			{
				name:    "Mutex.TryLock",
				write:   func(*rand.Rand) bool { return m.TryLock() },
				unwrite: m.Unlock,
			},
			{
				name:    "RWSem",
				write:   func(*rand.Rand) bool { s.Lock(); return true },
				unwrite: s.Unlock,
				read:    func(*rand.Rand) bool { s.RLock(); return true },
				un:      s.RUnlock,
			},
			{
				name:    "RWSem interrupted",
				write:   func(r *rand.Rand) bool { return hurried(r, i.LockContext) },
				unwrite: i.Unlock,
				read:    func(r *rand.Rand) bool { return hurried(r, i.RLockContext) },
				un:      i.RUnlock,
			},
			never,
		} {
			t.Run(l.name, func(t *testing.T) { torture(t, l, seed) })
		}
		// Nobody is left in, or queued.
		if !m.TryLock() || s.readers+s.queued+i.readers+i.queued != 0 || s.writer || i.writer {
			t.Errorf("after the torture: %+v, %+v", &s, &i)
		}
	})
}

// hurried takes a lock for which it waits a few microseconds only.
func hurried(r *rand.Rand, lock func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(100))*time.Microsecond)
	defer cancel()
	return lock(ctx) == nil
}

func torture(t *testing.T, l tortured, seed uint64) {
	const acquisitions = 300 // for each goroutine
	var writers, readers atomic.Int32
	var violation atomic.Pointer[string]
	hold := func(r *rand.Rand, writing bool) {
		if r.IntN(100) == 0 {
			time.Sleep(100 * time.Microsecond)
		} else {
			runtime.Gosched()
		}
		if w, n := writers.Load(), readers.Load(); w > 1 || w == 1 && (n > 0 || !writing) {
			s := fmt.Sprintf("%d writers and %d readers are in at once", w, n)
			violation.CompareAndSwap(nil, &s)
		}
	}
	var wg sync.WaitGroup
	run := func(g int, lock func(*rand.Rand) bool, unlock func(), count *atomic.Int32, writing bool) {
		r := rand.New(rand.NewPCG(seed, uint64(g)))
		wg.Go(func() {
			for taken := 0; taken < acquisitions; {
				if !lock(r) {
					runtime.Gosched()
					continue
				}
				taken++
				count.Add(1)
				hold(r, writing)
				count.Add(-1)
				unlock()
			}
		})
	}
	for g := range 2 * runtime.GOMAXPROCS(0) {
		run(2*g, l.write, l.unwrite, &writers, true)
		if l.read != nil {
			run(2*g+1, l.read, l.un, &readers, false)
		}
	}
	wg.Wait()
	switch v := violation.Load(); {
	case v != nil && !l.wantViolated:
		t.Error(*v)
	case v == nil && l.wantViolated:
		t.Error("a lock that excludes nobody was not noticed")
	}
}
