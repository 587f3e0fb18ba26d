//go:build !race

package lockdep

import (
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
	held   uint32       // 1 while somebody holds it
	hungry atomic.Int32 // who have slept for long; while there are any, others stand back
	mu     Mutex        // has the class, and is the lock with UseCond
}

// Init sets the lock's class. It must be called before the lock is shared.
func (s *Spin) Init(c *Class) { s.mu.Init(c) }

// Class returns what Init set.
func (s *Spin) Class() *Class { return s.mu.Class() }

// Lock takes the lock and waits for as long as another goroutine holds it.
func (s *Spin) Lock() {
	if !special.Load() && s.hungry.Load() == 0 && s.take() {
		return
	}
	s.lockSlow()
}

// TryLock takes the lock if nobody holds it and reports whether it did.
func (s *Spin) TryLock() bool {
	if special.Load() {
		return s.tryLockSpecial()
	}
	return s.take()
}

func (s *Spin) take() bool { return atomic.CompareAndSwapUint32(&s.held, 0, 1) }

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
	if special.Load() {
		acquired(s.mu.class, s, Exclusive)
	}
	if useCond {
		s.mu.lockCond()
		return
	}
	hungry, sleep := false, nap
	for i := 0; !hungry && s.hungry.Load() != 0 || atomic.LoadUint32(&s.held) != 0 || !s.take(); i++ {
		switch {
		case i < spins:
			pause()
			continue
		case i == spins+naps:
			hungry = true
			s.hungry.Add(1)
			continue
		}
		time.Sleep(sleep)
		sleep = min(2*sleep, maxNap)
	}
	if hungry {
		s.hungry.Add(-1)
	}
}

func (s *Spin) tryLockSpecial() bool {
	locked := useCond && s.mu.tryLockCond() || !useCond && s.take()
	if locked {
		acquired(s.mu.class, s, Exclusive|Try)
	}
	return locked
}

// unlockSpecial is Unlock with UseCond, or while the order of locks is checked.
func unlockSpecial(s *Spin) {
	if !released(s.mu.class, s) && atomic.LoadUint32(&s.held) == 0 && !s.mu.isLocked() {
		checkBalance(s.mu.class, s)
	}
	if useCond {
		s.mu.unlockCond()
		return
	}
	atomic.StoreUint32(&s.held, 0)
}

func (s *Spin) nestTurn() uint32 { return s.mu.turn }

func (s *Spin) mustBeHeld() {
	if !useCond && atomic.LoadUint32(&s.held) == 0 {
		panic("lockdep: unlock of unlocked " + s.Class().Name())
	}
}
