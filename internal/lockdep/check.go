package lockdep

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// A Mode says how a lock is acquired.
type Mode uint8

// The modes. A Shared acquisition waits for a writer that holds the lock, and
// for one that is still waiting. A Recursive acquisition waits only for a
// writer that holds the lock.
//
// Try is added to a mode if the caller would not have waited. Such an
// acquisition does not complete a circle, but later acquisitions under it may.
const (
	Exclusive Mode = iota
	Shared
	Recursive
	Try Mode = 4
)

func (m Mode) kind() Mode { return m &^ Try }

// Special is set by UseCond and Enable. Every lock then leaves its fast path.
// The name is exported for assembly in other packages that takes a Spin itself.
var Special struct {
	_ [aloneAt]byte
	atomic.Bool
	_ [60]byte
}

// aloneAt gives the switch a cache line that no other variable shares, because
// every lock reads it. The runtime writes some of its variables all the time.
const aloneAt = 64

// checking is the checker, or nil before Enable.
var checking atomic.Pointer[checker]

func init() {
	if os.Getenv("SLABFS_LOCKDEP") == "1" {
		Enable()
	}
}

// Enable makes the checker check every acquisition from now on. Call it before
// locks are used: the checker does not know of locks that are held already.
// SLABFS_LOCKDEP=1 in the environment enables the checker before main.
func Enable() {
	if checking.CompareAndSwap(nil, newChecker()) {
		Special.Store(true)
	}
}

// Enabled reports whether acquisitions are checked.
func Enabled() bool { return checking.Load() != nil }

// Violations returns how many violations were found. A violation that happens
// again, with the same classes in the same order, counts once.
func Violations() uint64 {
	if k := checking.Load(); k != nil {
		return k.violations.Load()
	}
	return 0
}

// Report returns the report of the first violation, or "".
func Report() string {
	k := checking.Load()
	if k == nil {
		return ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.report
}

// output receives the report. If it is nil, the report goes to standard error.
var output atomic.Pointer[func(report string)]

// SetOutput makes the first report go to f instead of standard error. f is
// called where the violation happens, with all locks that are held there.
func SetOutput(f func(report string)) { output.Store(&f) }

// Status returns the exit status of a test binary, given the status of its
// tests. A violation that no test noticed is a failure too.
func Status(tests int) int {
	if n := Violations(); n > 0 {
		fmt.Fprintf(os.Stderr, "lockdep: %d violations; the first was:\n%s", n, Report())
		return max(tests, 1)
	}
	return tests
}

// Alone runs f with a new checker and returns the checker's first report, or
// "". It is for tests. Other goroutines must not hold or take locks during f.
func Alone(f func()) (report string) {
	outer, was := checking.Load(), Special.Load()
	k := newChecker()
	k.quiet = true
	checking.Store(k)
	Special.Store(true)
	defer func() {
		checking.Store(outer)
		Special.Store(was)
	}()
	f()
	return Report()
}

// acquired is called by every lock before it waits. After a Try it is called if
// the lock was taken.
func acquired(c *Class, lock any, how Mode) {
	if k := checking.Load(); k != nil && c != nil {
		k.acquire(c, lock, how)
	}
}

// released is called by every lock before it lets others in. It reports whether
// the checker knew of the acquisition, by this or by another goroutine.
func released(c *Class, lock any) bool {
	k := checking.Load()
	return k == nil || c == nil || k.release(c, lock)
}

// Acquire tells the checker that this goroutine acquires something that is
// waited for like a lock. It is called before the wait. With Try it is called
// after the acquisition. lock identifies the instance and must be a pointer.
func Acquire(c *Class, lock any, how Mode) { acquired(c, lock, how) }

// Release tells the checker that what Acquire began has ended. Another
// goroutine may call it.
func Release(c *Class, lock any) { released(c, lock) }

// Wait tells the checker that this goroutine is about to wait until nobody
// holds lock. It counts as an exclusive acquisition and its release.
func Wait(c *Class, lock any) {
	acquired(c, lock, Exclusive)
	released(c, lock)
}

// byKey has the classes that ClassFor made.
var byKey sync.Map // of *Class

// ClassFor returns the class of a key. It is for locks whose kinds are not
// known beforehand, such as one for each attribute definition. Call it only if
// Enabled returns true, so that keys are not kept in memory otherwise. It
// returns nil if there is no room for another class.
func ClassFor(key any, name func() string) *Class {
	c, ok := byKey.Load(key)
	if !ok {
		if !classes.room() {
			return nil
		}
		c, _ = byKey.LoadOrStore(key, NewClass(name()))
	}
	return c.(*Class)
}
