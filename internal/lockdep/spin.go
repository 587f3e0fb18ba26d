//go:build !race

package lockdep

import (
	"runtime"
	"sync/atomic"
	"time"

	"slabfs/internal/invariants"
)

// A Spin is a Mutex for short, rarely contended sections. Lock costs one atomic
// instruction. Unlock costs none, because it notifies nobody: waiters look
// again, first at once, then after sleeping. So a wait may end 80 microseconds
// late. A waiter that has slept for half a millisecond goes before all later
// ones, so nobody waits forever for a holder that keeps coming back.
//
// A holder may be preempted or wait for another lock; the waiters sleep during
// that time. In race builds and after UseCond a Spin is a Mutex, because the
// race detector and testing/synctest see only a Mutex.
type Spin struct {
	// The low half is 1 while the lock is held. The high half counts
	// waiters that have slept for long. While there are any, other
	// goroutines do not take the lock at once. So the lock may be taken at
	// once if the word is 0. Assembly that takes the lock itself tests for
	// that.
	word atomic.Uint64
	mu   Mutex // has the class; with UseCond it is the lock
}

const (
	taken  = 1
	hungry = 1 << 32
)

// Init sets the lock's class. It must be called before the lock is shared.
func (s *Spin) Init(c *Class) { s.mu.Init(c) }

// Class returns the class that Init set.
func (s *Spin) Class() *Class { return s.mu.Class() }

// Lock takes the lock. It waits while another goroutine holds it.
func (s *Spin) Lock() {
	if !Special.Load() && s.word.CompareAndSwap(0, taken) {
		return
	}
	s.lockSlow()
}

// TryLock takes the lock if nobody holds it, and reports whether it did.
func (s *Spin) TryLock() bool {
	if Special.Load() {
		return s.tryLockSpecial()
	}
	return s.take(true)
}

// take takes the lock if nobody holds it. If there are hungry waiters, it does
// so only with push.
func (s *Spin) take(push bool) bool {
	for {
		w := s.word.Load()
		if w%hungry != 0 || w != 0 && !push {
			return false
		}
		if s.word.CompareAndSwap(w, w+taken) {
			return true
		}
	}
}

// Unlock releases the lock. Only invariants builds, UseCond and the checker
// notice if it is not held.
func (s *Spin) Unlock() {
	if invariants.Enabled {
		s.mustBeHeld()
	}
	unlock(s)
}

// How often a waiter looks in each phase. A holder that runs is gone after the
// first phase. There is no phase of yields in between: if goroutines compute on
// all CPUs, one that yields may wait until another has used up its 10
// milliseconds.
const (
	spins = 100 // 40 microseconds in all
	naps  = 10  // then the waiter is hungry

	nap    = 20 * time.Microsecond // the first; each nap is twice as long as the last
	maxNap = 4 * nap
)

func (s *Spin) lockSlow() {
	if Special.Load() {
		acquired(s.mu.class, s, Exclusive)
	}
	if useCond {
		s.mu.lockCond()
		return
	}
	push, sleep := false, nap
	for i := 0; !s.take(push); i++ {
		switch {
		case i < spins:
			pause()
			continue
		case i == spins+naps:
			push = true
			s.word.Add(hungry)
			continue
		}
		doze(sleep)
		sleep = min(2*sleep, maxNap)
	}
	if push {
		s.word.Add(^uint64(hungry - 1))
	}
}

// doze sleeps for d. In a bubble of testing/synctest it only yields. There a
// sleep ends only when all goroutines of the bubble are blocked in it, and a
// goroutine that waits for a Mutex does not count as blocked.
func doze(d time.Duration) {
	if inBubble() {
		runtime.Gosched()
		return
	}
	time.Sleep(d)
}

func (s *Spin) tryLockSpecial() bool {
	locked := useCond && s.mu.tryLockCond() || !useCond && s.take(true)
	if locked {
		acquired(s.mu.class, s, Exclusive|Try)
	}
	return locked
}

// unlockSpecial is Unlock after UseCond or Enable.
func unlockSpecial(s *Spin) {
	if !released(s.mu.class, s) && !s.isHeld() && !s.mu.isLocked() {
		checkBalance(s.mu.class, s)
	}
	if useCond {
		s.mu.unlockCond()
		return
	}
	s.word.And(^uint64(hungry - 1))
}

func (s *Spin) isHeld() bool { return s.word.Load()%hungry != 0 }

func (s *Spin) nestTurn() uint32 { return s.mu.turn }

func (s *Spin) mustBeHeld() {
	if !useCond && !s.isHeld() {
		panic("lockdep: unlock of unlocked " + s.Class().Name())
	}
}
