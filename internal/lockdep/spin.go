//go:build !race

package lockdep

import (
	"runtime"
	"sync/atomic"
	"time"

	"slabfs/internal/invariants"
)

// A Spin is a Mutex for short sections that hardly anybody waits for and in which
// nobody waits for long. Taking it is one atomic instruction and giving it back is
// none, since nobody is told: who waits looks again, first at once, then after
// sleeping. So a wait may end 80 microseconds late. Who has slept for half a
// millisecond goes before all who come then: nobody waits for ever for a holder that
// comes back at once.
//
// A holder may be preempted or wait for another lock; the others sleep meanwhile.
// In race builds and after UseCond it is a Mutex: the race detector and
// testing/synctest see no other.
type Spin struct {
	// The low half is 1 while somebody holds the lock. The high half counts who have slept for
	// long; while there are any, others stand back. So 0 is what may be taken at once, and what
	// assembly compares that takes the lock by itself.
	word atomic.Uint64
	mu   Mutex // has the class, and is the lock with UseCond
}

const (
	taken  = 1
	hungry = 1 << 32
)

// Init sets the lock's class. It must be called before the lock is shared.
func (s *Spin) Init(c *Class) { s.mu.Init(c) }

// Class returns what Init set.
func (s *Spin) Class() *Class { return s.mu.Class() }

// Lock takes the lock and waits for as long as another goroutine holds it.
func (s *Spin) Lock() {
	if !Special.Load() && s.word.CompareAndSwap(0, taken) {
		return
	}
	s.lockSlow()
}

// TryLock takes the lock if nobody holds it and reports whether it did.
func (s *Spin) TryLock() bool {
	if Special.Load() {
		return s.tryLockSpecial()
	}
	return s.take(true)
}

// take takes the lock if nobody holds it, and nobody is hungry or the caller does not mind.
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

// Unlock releases the lock. That it is held is checked in invariants builds and with UseCond only.
func (s *Spin) Unlock() {
	if invariants.Enabled {
		s.mustBeHeld()
	}
	unlock(s)
}

// How often a wait looks in each of its phases. A holder that runs is gone after the first.
// There is none of yields between them: where goroutines compute on all CPUs,
// one that yields comes back when another has used up its 10 milliseconds.
const (
	spins = 100 // 40 microseconds in all
	naps  = 10  // after which it is hungry

	nap    = 20 * time.Microsecond // the first; each is twice as long as the one before
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

// doze sleeps for d. In a bubble of testing/synctest it only yields: there a sleep ends
// when all goroutines of the bubble sleep, and one that waits for a Mutex never does.
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

// unlockSpecial is Unlock with UseCond, or while the order of locks is checked.
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
