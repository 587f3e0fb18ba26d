package workqueue

import "time"

// The home of a queue is a goroutine that New starts. It owns the timer and the
// workers, and callers only notify it. So none of them belongs to a bubble of
// testing/synctest that a caller is in. That matters because only goroutines of
// a bubble may touch its timers, and a bubble does not end before its
// goroutines. A queue that was made in a bubble has its home there.

// home starts workers, and makes items ready when their time has come. It ends
// with Destroy.
func (q *Queue) home() {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		select {
		case <-q.poke:
		case <-timer.C:
		}
		q.mu.Lock()
		next, wait := q.expireAll(time.Now())
		for ; q.starts > 0; q.starts-- {
			if q.workers < q.max {
				q.workers++
				go q.work()
			}
		}
		ends := q.destroyed && q.idle() && !wait
		q.mu.Unlock()
		if ends {
			timer.Stop()
			close(q.ended)
			return
		}
		if wait {
			timer.Reset(next)
		} else {
			timer.Stop()
		}
	}
}

// tell makes the home look at the queue soon.
func (q *Queue) tell() {
	select {
	case q.poke <- struct{}{}:
	default: // the home was notified already
	}
}

// expireAll makes items ready when their time has come, in the order of their
// times. If some items are left, it returns how long until the next one.
//
// Preconditions: q.mu is held; the caller is the home, because times are by its
// clock.
func (q *Queue) expireAll(now time.Time) (next time.Duration, some bool) {
	for {
		var first *Work
		for w := range q.timed {
			if w.due.IsZero() { // new
				w.due = now.Add(w.after)
			}
			if first == nil || w.due.Before(first.due) {
				first = w
			}
		}
		if first == nil {
			return 0, false
		}
		if first.due.After(now) {
			return first.due.Sub(now), true
		}
		first.expire()
	}
}
