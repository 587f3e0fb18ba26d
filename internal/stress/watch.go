package stress

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// A kind is a line of the table of operations.
type kind int

const (
	opCreate kind = iota
	opDestroy
	opShellCreate
	opShellDestroy
	opRefuse
	opOpen
	opStore
	opClose
	opRead
	opList
	opAllocate
	opHoard
	opAttach
	opDetach
	opOnline
	opHotplug
	opEnd
	kinds
)

var kindNames = [kinds]string{
	opCreate:       "create",
	opDestroy:      "destroy",
	opShellCreate:  "echo > new_cache",
	opShellDestroy: "echo > delete_cache",
	opRefuse:       "destroy with live objects",
	opOpen:         "open",
	opStore:        "store",
	opClose:        "close",
	opRead:         "read",
	opList:         "list",
	opAllocate:     "allocate and free 64",
	opHoard:        "allocate at the limit",
	opAttach:       "attach a tree",
	opDetach:       "detach it",
	opOnline:       "hotplug lock, read",
	opHotplug:      "hotplug lock, written",
	opEnd:          "end: close, unmount",
}

// counts of one kind of operation. All fields are atomic.
type counts struct {
	done    atomic.Uint64 // those that failed as they may included
	refused atomic.Uint64 // those
	slowest atomic.Int64  // nanoseconds
}

// A call is an operation under way.
type call struct {
	kind  kind
	what  string
	began time.Duration // by the watchdog's clock
}

func (c *call) String() string { return fmt.Sprintf("%s %q", kindNames[c.kind], c.what) }

// note counts an operation that has ended.
func (w *world) note(k kind, took time.Duration, refused bool) {
	n := &w.counts[k]
	n.done.Add(1)
	if refused {
		n.refused.Add(1)
	}
	for {
		old := n.slowest.Load()
		if int64(took) <= old || n.slowest.CompareAndSwap(old, int64(took)) {
			return
		}
	}
}

// violate notes what must not happen, and ends the run.
func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.violations++; w.violations <= maxMessages {
		w.messages = append(w.messages, fmt.Sprintf(format, args...))
	}
	w.cancel()
}

// maxMessages bounds how many violations are described.
const maxMessages = 10

// watch is the watchdog: it looks for operations that do not end and for what the
// allocator counts as misuse, and shows progress, until stop is closed. It closes
// hung if an operation does not end within the deadline.
//
// Its clock counts a look as a quarter of a second at most. So it stands still
// while the process, or the machine, is stopped.
func (w *world) watch(stop <-chan struct{}, hung chan<- struct{}) {
	const look, most = 50 * time.Millisecond, 250 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		w.clock.Add(int64(min(now.Sub(last), most)))
		last = now
		w.checkCounters()
		if late := w.underWay(w.config.Deadline); len(late) > 0 {
			w.reportHang(late[0])
			close(hung)
			return
		}
		w.progress()
	}
}

// checkCounters looks for what the allocator itself noticed.
func (w *world) checkCounters() {
	if n := w.a.Misuse(); n > w.misuse {
		w.misuse = n
		w.violate("a released cache was in use by a show, a store or a tree (%d times)", n)
	}
	if n := w.a.Damage(); n > w.damage {
		w.damage = n
		w.violate("%d objects were no objects of the slab to which they were to return, or free already", n)
	}
}

// underWay returns the operations that have not ended for longer than age, oldest first.
func (w *world) underWay(age time.Duration) []*call {
	var calls []*call
	now := time.Duration(w.clock.Load())
	for _, a := range w.actors {
		if c := a.call.Load(); c != nil && now-c.began > age {
			calls = append(calls, c)
		}
	}
	slices.SortFunc(calls, func(a, b *call) int { return int(a.began - b.began) })
	return calls
}

// reportHang prints who waits, and for what, while they do.
func (w *world) reportHang(late *call) {
	now := time.Duration(w.clock.Load())
	w.violate("%v has not ended after %.1f s", late, (now - late.began).Seconds())
	w.clearLine()
	fmt.Fprintf(w.config.Err, "stress: %v has not ended after %.1f s; these wait as well:\n", late, (now - late.began).Seconds())
	for _, c := range w.underWay(w.config.Deadline / 10) {
		if c != late {
			fmt.Fprintf(w.config.Err, "  %5.1f s  %v\n", (now - c.began).Seconds(), c)
		}
	}
	fmt.Fprintf(w.config.Err, "stacks of all goroutines:\n\n%s\n", stacks())
}

// stacks returns the stacks of all goroutines.
func stacks() []byte {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size || size >= 64<<20 {
			return buf[:n]
		}
	}
}

// progress shows one line, which the next one overwrites.
func (w *world) progress() {
	if w.config.Progress == nil || time.Since(w.shown) < time.Second/4 {
		return
	}
	w.shown = time.Now()
	var ops uint64
	for k := range w.counts {
		ops += w.counts[k].done.Load()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.config.Progress, "\r\x1b[Kstress: %.1f s, %d operations, %d violations", time.Since(w.began).Seconds(), ops, w.violations)
}

func (w *world) clearLine() {
	if w.config.Progress != nil {
		fmt.Fprint(w.config.Progress, "\r\x1b[K")
	}
}
