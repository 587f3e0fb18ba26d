package lockdep

import (
	"sync"
	"time"
)

// A Cond is a condition variable. A goroutine in a bubble of testing/synctest
// may be woken from outside; with sync.Cond that is a fatal error. If a Cond
// was made in a bubble, or after UseCond, it is a sync.Cond. Then the bubble
// sees its waiters, and all its users must be in that bubble.
type Cond struct {
	l       sync.Locker
	cond    *sync.Cond
	waiting []*sync.Mutex // under l; one for each waiter, which locks it twice
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

// Wait releases the lock, waits for a broadcast, and takes the lock again.
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

// Broadcast wakes all waiters.
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

// inBubble reports whether this goroutine is in a bubble of testing/synctest.
// In a bubble, time.Now has no monotonic clock.
func inBubble() bool {
	now := time.Now()
	return now == now.Round(0) //nolint:staticcheck // QF1009: Equal does not look at the monotonic clock
}
