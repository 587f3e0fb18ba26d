package lockdep

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// A Mode says how a lock is acquired.
type Mode uint8

// The modes. A Shared acquisition is blocked also by a writer that only waits, a
// Recursive one by a writer that holds the lock. Try is added to one of them
// where the caller would not have waited: that closes no circle by itself, but
// what is acquired next is acquired under it.
const (
	Exclusive Mode = iota
	Shared
	Recursive
	Try Mode = 4
)

func (m Mode) kind() Mode { return m &^ Try }

// Special is set by UseCond and Enable: a lock then leaves its short path. It has this name
// for assembly elsewhere that takes a Spin by itself.
var Special struct {
	_ [aloneAt]byte
	atomic.Bool
	_ [60]byte
}

// aloneAt leaves the switch a cache line that no other variable shares: some of the runtime
// are written all the time, and every lock reads it.
const aloneAt = 64

// checking is the checker, nil as long as nobody asked for it.
var checking atomic.Pointer[checker]

func init() {
	if os.Getenv("SLABFS_LOCKDEP") == "1" {
		Enable()
	}
}

// Enable makes every acquisition from now on be checked. It is meant to be
// called before locks are used: of locks that are held now the checker does not
// know. SLABFS_LOCKDEP=1 in the environment does the same before main.
func Enable() {
	if checking.CompareAndSwap(nil, newChecker()) {
		Special.Store(true)
	}
}

// Enabled reports whether acquisitions are checked.
func Enabled() bool { return checking.Load() != nil }

// Violations returns how many violations were found. One that occurs again, with
// the same classes in the same order, counts once.
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

// output gets the report; nil: standard error.
var output atomic.Pointer[func(report string)]

// SetOutput makes the first report go to f, and not to standard error. It is
// called where the violation happens, with whatever locks are held there.
func SetOutput(f func(report string)) { output.Store(&f) }

// Status returns the exit status of a test binary whose tests ended with the
// given one: also a violation that no test noticed is a failure.
func Status(tests int) int {
	if n := Violations(); n > 0 {
		fmt.Fprintf(os.Stderr, "lockdep: %d violations; the first was:\n%s", n, Report())
		return max(tests, 1)
	}
	return tests
}

// Alone runs f with a checker that has seen nothing yet and returns its first
// report, or "". It is for tests; nothing else may hold or take locks meanwhile.
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

// acquired is what every lock calls when it is about to wait, or with Try when
// it did not have to.
func acquired(c *Class, lock any, how Mode) {
	if k := checking.Load(); k != nil && c != nil {
		k.acquire(c, lock, how)
	}
}

// released is what every lock calls when it is about to let others in. It
// reports whether the checker knew of the acquisition, which may be another goroutine's.
func released(c *Class, lock any) bool {
	k := checking.Load()
	return k == nil || c == nil || k.release(c, lock)
}

// Acquire tells the checker that this goroutine acquires what others wait for
// as for a lock: before it waits, or with Try when it has it. lock stands for
// the instance and must be a pointer.
func Acquire(c *Class, lock any, how Mode) { acquired(c, lock, how) }

// Release ends what Acquire began. Another goroutine may do it.
func Release(c *Class, lock any) { released(c, lock) }

// Wait tells the checker that this goroutine is about to wait until nobody has
// lock: an exclusive acquisition and its release.
func Wait(c *Class, lock any) {
	acquired(c, lock, Exclusive)
	released(c, lock)
}

// byKey has the classes of ClassFor.
var byKey sync.Map // of *Class

// ClassFor returns the class that belongs to a key: for locks whose kinds are
// not known beforehand, such as one per attribute definition. It is called only
// where Enabled is true, so that keys are not remembered otherwise.
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
