package lockdep

import (
	"context"
	"sync"
)

// An RWSem is a reader-writer semaphore that prefers writers. Once a writer
// waits, new readers wait behind it, as with Linux's percpu_rw_semaphore
// (kernel/locking/percpu-rwsem.c, 6.12). So a goroutine must never take it for
// reading twice. The zero value is free and has no class; Init gives it one.
//
// A context can interrupt its waits.
type RWSem struct {
	mu      sync.Mutex
	bubble  bool  // it was made in a bubble of testing/synctest
	cond    *Cond // made by the first wait
	class   *Class
	readers int
	writer  bool
	queued  int // writers that wait
	waited  uint64
}

// Init sets the semaphore's class. It must be called before the semaphore is
// shared.
func (s *RWSem) Init(c *Class) {
	if Special.Load() {
		checkInit(c, s)
	}
	s.class = c
	s.bubble = inBubble()
}

// Class returns the class that Init set.
func (s *RWSem) Class() *Class { return s.class }

// RLock takes the semaphore for reading. It waits while a writer holds the
// semaphore or waits for it.
func (s *RWSem) RLock() { _ = s.RLockContext(context.Background()) }

// RLockContext is RLock, but stops waiting when ctx ends and returns ctx's
// error.
func (s *RWSem) RLockContext(ctx context.Context) error {
	if Special.Load() {
		acquired(s.class, s, Shared)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wait(ctx, func() bool { return !s.writer && s.queued == 0 }); err != nil {
		s.gaveUp()
		return err
	}
	s.readers++
	return nil
}

// RUnlock releases the semaphore after RLock. It panics if no reader holds the
// semaphore.
func (s *RWSem) RUnlock() {
	known := !Special.Load() || released(s.class, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers == 0 {
		s.unbalanced(known)
		panic("lockdep: read unlock of unlocked " + s.class.Name())
	}
	s.readers--
	s.wake()
}

// Lock takes the semaphore for writing. It blocks new readers and waits for the
// current ones.
func (s *RWSem) Lock() { _ = s.LockContext(context.Background()) }

// LockContext is Lock, but stops waiting when ctx ends and returns ctx's error.
func (s *RWSem) LockContext(ctx context.Context) error {
	if Special.Load() {
		acquired(s.class, s, Exclusive)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued++
	if s.writer || s.readers > 0 {
		s.waited++
	}
	err := s.wait(ctx, func() bool { return !s.writer && s.readers == 0 })
	s.queued--
	if err != nil {
		s.gaveUp()
		s.wake() // readers that waited only for this writer
		return err
	}
	s.writer = true
	return nil
}

// Unlock releases the semaphore after Lock. It panics if no writer holds the
// semaphore.
func (s *RWSem) Unlock() {
	known := !Special.Load() || released(s.class, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.writer {
		s.unbalanced(known)
		panic("lockdep: unlock of unlocked " + s.class.Name())
	}
	s.writer = false
	s.wake()
}

// WritersWaited returns how many calls of Lock had to wait because the
// semaphore was held.
func (s *RWSem) WritersWaited() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waited
}

// gaveUp tells the checker that the acquisition announced before the wait did
// not happen.
func (s *RWSem) gaveUp() {
	if Special.Load() {
		released(s.class, s)
	}
}

// unbalanced tells the checker of an unlock that is about to panic. It does
// nothing if the checker knows an acquisition, which then has the other mode.
func (s *RWSem) unbalanced(known bool) {
	if !known {
		checkBalance(s.class, s)
	}
}

// wait returns nil when free reports true, or ctx's error when ctx ends. If
// free reports true at once, a ctx that has ended is no error: a signal ends
// waits and nothing else.
//
// Preconditions: s.mu is held.
func (s *RWSem) wait(ctx context.Context, free func() bool) error {
	if free() {
		return nil
	}
	if s.cond == nil {
		s.cond = newCond(&s.mu, s.bubble)
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wake()
		})
		defer stop()
	}
	for !free() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.cond.Wait()
	}
	return nil
}

// wake wakes all waiters.
//
// Preconditions: s.mu is held.
func (s *RWSem) wake() {
	if s.cond != nil {
		s.cond.Broadcast()
	}
}
