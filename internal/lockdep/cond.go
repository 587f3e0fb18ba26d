package lockdep

import (
	"sync"
	"time"
)

// A Cond is a condition variable whose waits are like those for a sync.Mutex: a
// goroutine in a bubble of testing/synctest may be woken from outside, which
// sync.Cond makes a fatal error. It is a sync.Cond if it was made in a bubble,
// or after UseCond. Then the bubble sees who waits, and all who use it are in
// that bubble.
type Cond struct {
	l       sync.Locker
	cond    *sync.Cond
	waiting []*sync.Mutex // under l; each is locked twice by who waits
}

// NewCond returns a condition variable over l.
func NewCond(l sync.Locker) *Cond { return newCond(l, inBubble()) }

func newCond(l sync.Locker, bubble bool) *Cond {
	c := &Cond{l: l}
	if bubble || useCond {
		c.cond = sync.NewCond(l)
	}
	return c
}

// Wait waits for a broadcast, and drops the lock meanwhile.
//
// Preconditions: the lock is held.
func (c *Cond) Wait() {
	if c.cond != nil {
		c.cond.Wait()
		return
	}
	w := new(sync.Mutex)
	w.Lock()
	c.waiting = append(c.waiting, w)
	c.l.Unlock()
	w.Lock()
	c.l.Lock()
}

// Broadcast wakes all that wait.
//
// Preconditions: the lock is held.
func (c *Cond) Broadcast() {
	if c.cond != nil {
		c.cond.Broadcast()
		return
	}
	for i, w := range c.waiting {
		w.Unlock()
		c.waiting[i] = nil
	}
	c.waiting = c.waiting[:0]
}

// inBubble reports whether this goroutine is in a bubble of testing/synctest:
// there the time has no monotonic clock.
func inBubble() bool {
	now := time.Now()
	return now == now.Round(0)
}
