package lockdep

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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

func TestRWSemReadersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s RWSem
		s.Init(CPUHotplug)
		if s.Class() != CPUHotplug {
			t.Errorf("class = %q; want %q", s.Class().Name(), CPUHotplug.Name())
		}
		s.RLock()
		if !start(s.RLock)() {
			t.Error("a reader waits for a reader")
		}
		writer := start(s.Lock)
		s.RUnlock()
		if writer() {
			t.Error("a writer is in beside a reader")
		}
		s.RUnlock()
		if !writer() {
			t.Error("a writer waits though the last reader has left")
		}
		reader, second := start(s.RLock), start(s.Lock)
		if reader() || second() {
			t.Errorf("beside a writer: a reader is in: %v, a writer: %v", reader(), second())
		}
		s.Unlock()
		if !second() || reader() {
			t.Errorf("the queued writer is in: %v, the reader: %v; want the writer first", second(), reader())
		}
		s.Unlock()
		if !reader() {
			t.Error("a reader waits for nobody")
		}
		s.RUnlock()
	})
}

// TestRWSemWriterPreference is what makes the deadlock of three parties
// possible: a writer that waits holds readers back.
func TestRWSemWriterPreference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s RWSem
		s.Init(CPUHotplug)
		s.RLock()
		writer := start(s.Lock)
		reader := start(s.RLock)
		time.Sleep(time.Hour) // the waits are visible: time advances
		if writer() || reader() {
			t.Fatalf("writer is in: %v, reader: %v; want both to wait", writer(), reader())
		}
		s.RUnlock()
		if !writer() || reader() {
			t.Fatalf("after the first reader: writer is in: %v, reader: %v; want the writer only", writer(), reader())
		}
		s.Unlock()
		if !reader() {
			t.Fatal("the reader waits after the writer has left")
		}
		s.RUnlock()
	})
}

// TestRWSemWriterGivesUp checks that the readers that waited only for a writer
// go on when it no longer wants.
func TestRWSemWriterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s RWSem
		s.Init(CPUHotplug)
		s.RLock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var err error
		writer := start(func() { err = s.LockContext(ctx) })
		first, second := start(s.RLock), start(s.RLock)
		time.Sleep(59 * time.Second)
		if writer() || first() || second() {
			t.Fatal("somebody passed a held semaphore")
		}
		time.Sleep(2 * time.Second)
		if !writer() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("LockContext: returned %v, %v; want %v", writer(), err, context.DeadlineExceeded)
		}
		if !first() || !second() {
			t.Error("readers wait for a writer that gave up")
		}
		for range 3 {
			s.RUnlock()
		}
		if !start(s.Lock)() {
			t.Error("a writer waits for nobody")
		}
		s.Unlock()
	})
}

func TestRWSemReaderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s RWSem
		s.Init(CPUHotplug)
		s.Lock()
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		reader := start(func() { err = s.RLockContext(ctx) })
		other := start(s.RLock)
		cancel()
		if !reader() || !errors.Is(err, context.Canceled) {
			t.Errorf("RLockContext: returned %v, %v; want %v", reader(), err, context.Canceled)
		}
		s.Unlock()
		if !other() {
			t.Error("the other reader waits for nobody")
		}
		s.RUnlock()
		expectPanic(t, "lockdep: read unlock of unlocked cpu_hotplug_lock", s.RUnlock) // it counts no reader that gave up
	})
}

// A context that has ended ends waits, and nothing but waits.
func TestRWSemEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var s RWSem
	if err := s.RLockContext(ctx); err != nil {
		t.Errorf("free: RLockContext = %v; want success", err)
	}
	if err := s.LockContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("held by a reader: LockContext = %v; want %v", err, context.Canceled)
	}
	s.RUnlock() // no writer is queued
	if err := s.LockContext(ctx); err != nil {
		t.Errorf("free: LockContext = %v; want success", err)
	}
	if err := s.RLockContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("held by a writer: RLockContext = %v; want %v", err, context.Canceled)
	}
	if err := s.LockContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("held by a writer: LockContext = %v; want %v", err, context.Canceled)
	}
	s.Unlock()
	s.Lock() // those that gave up left nothing behind
	s.Unlock()
}

func TestRWSemWritersWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s RWSem
		s.Init(CPUHotplug)
		expect := func(want uint64) {
			t.Helper()
			if got := s.WritersWaited(); got != want {
				t.Errorf("WritersWaited() = %d; want %d", got, want)
			}
		}
		s.Lock()
		expect(0)
		writer := start(s.Lock)
		expect(1)
		s.Unlock()
		writer()
		s.Unlock()
		s.RLock()
		writer = start(s.Lock)
		s.RUnlock()
		writer()
		s.Unlock()
		expect(2)
	})
}

func TestRWSemUnlockOfUnlocked(t *testing.T) {
	var s RWSem
	s.Init(CPUHotplug)
	expectPanic(t, "lockdep: unlock of unlocked cpu_hotplug_lock", s.Unlock)
	expectPanic(t, "lockdep: read unlock of unlocked cpu_hotplug_lock", s.RUnlock)
	s.RLock()
	expectPanic(t, "lockdep: unlock of unlocked cpu_hotplug_lock", s.Unlock)
	s.RUnlock()
	s.Lock()
	expectPanic(t, "lockdep: read unlock of unlocked cpu_hotplug_lock", s.RUnlock)
	s.Unlock()
}

func BenchmarkRWSem(b *testing.B) {
	var s RWSem
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			s.RLock()
			s.RUnlock()
		}
	})
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			s.Lock()
			s.Unlock()
		}
	})
}

// A semaphore of several bubbles: whoever waits is woken from another one, or
// from outside of all, as with sync.Mutex.
func TestRWSemAcrossBubbles(t *testing.T) {
	var s RWSem
	s.Init(CPUHotplug)
	for range 20 {
		s.Lock()
		waits := make(chan struct{}, 4)
		done := make(chan struct{})
		for range 2 {
			go func() {
				defer func() { done <- struct{}{} }()
				synctest.Test(t, func(t *testing.T) {
					for range 2 {
						go func() {
							waits <- struct{}{}
							s.RLock()
							s.RUnlock()
							s.Lock()
							s.Unlock()
						}()
					}
				})
			}()
		}
		for range 4 {
			<-waits
		}
		time.Sleep(100 * time.Microsecond) // most of them sleep by now
		s.Unlock()
		<-done
		<-done
	}
}
