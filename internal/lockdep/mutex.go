package lockdep

import "sync"

// useCond puts every Mutex and Spin on sync.Cond. It is set before the first
// Lock and never changed afterwards, so reading it needs no synchronization.
var useCond bool

// UseCond makes waiting for any lock visible to testing/synctest. A lock then
// costs twice as much. It is for tests and must be called before any lock is
// used.
func UseCond() {
	useCond = true
	Special.Store(true)
}

// A Mutex is a mutual exclusion lock with a class. The zero value is unlocked
// and has no class; Init gives it one.
type Mutex struct {
	mu    sync.Mutex
	class *Class
	turn  uint32 // see turnOf

	// With UseCond: mu guards held, and waiters wait on cond.
	held bool
	cond *sync.Cond
}

// Init sets the lock's class. It must be called before the lock is shared.
func (m *Mutex) Init(c *Class) {
	if Special.Load() {
		checkInit(c, m)
	}
	m.class = c
	m.turn = nextTurn(c)
}

func (m *Mutex) nestTurn() uint32 { return m.turn }

// Class returns the class that Init set.
func (m *Mutex) Class() *Class { return m.class }

// Lock takes the lock. It waits while another goroutine holds it.
func (m *Mutex) Lock() {
	if Special.Load() {
		m.lockSpecial()
		return
	}
	m.mu.Lock()
}

// TryLock takes the lock if nobody holds it, and reports whether it did.
func (m *Mutex) TryLock() bool {
	if Special.Load() {
		return m.tryLockSpecial()
	}
	return m.mu.TryLock()
}

// Unlock releases the lock. If the lock is not held, the program ends. After
// UseCond, the call panics instead.
func (m *Mutex) Unlock() {
	if Special.Load() {
		m.unlockSpecial()
		return
	}
	m.mu.Unlock()
}

func (m *Mutex) lockSpecial() {
	acquired(m.class, m, Exclusive)
	if useCond {
		m.lockCond()
		return
	}
	m.mu.Lock()
}

func (m *Mutex) tryLockSpecial() bool {
	locked := useCond && m.tryLockCond() || !useCond && m.mu.TryLock()
	if locked {
		acquired(m.class, m, Exclusive|Try)
	}
	return locked
}

func (m *Mutex) unlockSpecial() {
	if !released(m.class, m) && !m.isLocked() {
		checkBalance(m.class, m)
	}
	if useCond {
		m.unlockCond()
		return
	}
	m.mu.Unlock()
}

// isLocked reports whether the lock is held. It is for locks that the checker
// does not know to be held: they may have been locked before Enable.
func (m *Mutex) isLocked() bool {
	if !m.mu.TryLock() {
		return true
	}
	defer m.mu.Unlock()
	return useCond && m.held
}

func (m *Mutex) lockCond() {
	m.mu.Lock()
	if m.cond == nil {
		m.cond = sync.NewCond(&m.mu)
	}
	for m.held {
		m.cond.Wait()
	}
	m.held = true
	m.mu.Unlock()
}

func (m *Mutex) tryLockCond() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held {
		return false
	}
	m.held = true
	return true
}

func (m *Mutex) unlockCond() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.held {
		panic("lockdep: unlock of unlocked " + m.class.Name())
	}
	m.held = false
	if m.cond != nil {
		m.cond.Signal()
	}
}
