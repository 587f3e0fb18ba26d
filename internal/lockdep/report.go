package lockdep

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// Reports have the format of Linux's (kernel/locking/lockdep.c, 6.12), for
// people and programs that know it. The stack frames are Go's.

// full returns the class's name as in reports. If several classes share a name,
// all except the first get a number.
func (c *Class) full() string {
	if c.same == 0 {
		return c.Name()
	}
	return fmt.Sprintf("%s#%d", c.Name(), c.same+1)
}

// usageChars returns how the class was used, as the four characters of Linux:
// written and read, for hard and for soft interrupts. Here the second pair
// repeats the first, because there are no interrupts.
func (c *Class) usageChars() string {
	char := func(bit uint32) string {
		if c.usage.Load()&bit != 0 {
			return "+"
		}
		return "."
	}
	w, r := char(usedExclusive), char(usedShared)
	return w + r + w + r
}

func (c *Class) describe() string {
	return fmt.Sprintf("(%s){%s}-%s", c.full(), c.usageChars(), c.wait)
}

func (h *held) String() string {
	return fmt.Sprintf("%p %s, at: %s", h.lock, h.class.describe(), place(h.at[:]))
}

// place returns the first function on a stack outside this package.
func place(pcs []uintptr) string {
	if f := frames(pcs); len(f) > 0 {
		return f[0]
	}
	return "?"
}

// frames returns the lines of a stack, without the calls inside this package at
// its top.
func frames(pcs []uintptr) (lines []string) {
	for i, pc := range pcs { // the rest of a short stack is 0
		if pc == 0 {
			pcs = pcs[:i]
			break
		}
	}
	if len(pcs) == 0 {
		return nil
	}
	all := runtime.CallersFrames(pcs)
	for {
		f, more := all.Next()
		if f.Function != "" && (len(lines) > 0 || !inside(f)) && !strings.HasPrefix(f.Function, "runtime.") {
			lines = append(lines, frame(f))
		}
		if !more {
			return lines
		}
	}
}

// inside reports whether a frame belongs to the checker or to a lock.
func inside(f runtime.Frame) bool {
	return strings.HasPrefix(f.Function, "slabfs/internal/lockdep.") && !strings.HasSuffix(f.File, "_test.go") ||
		strings.HasPrefix(f.Function, "sync.(*Cond).")
}

// frame returns a line such as "slabfs/alloc.(*core).flushAll+0x5a
// alloc/flush.go:24".
func frame(f runtime.Frame) string {
	s := f.Function
	if f.Func != nil {
		s += fmt.Sprintf("+%#x", f.PC-f.Entry)
	}
	return fmt.Sprintf("%s %s/%s:%d", s, filepath.Base(filepath.Dir(f.File)), filepath.Base(f.File), f.Line)
}

// who returns the program and the goroutine, in the place of Linux's command
// and process.
func who() string { return fmt.Sprintf("%s/%d", filepath.Base(os.Args[0]), traced()) }

// releaseLine returns the Go version and the revision, in the place of Linux's
// release and build.
func releaseLine() string {
	build := "1"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				build = s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return fmt.Sprintf("%s #%s Not tainted\n", runtime.Version(), build)
}

// head writes the title of a report. rule is the length of the lines around it.
func head(w *strings.Builder, title string, rule int) {
	fmt.Fprintf(w, "\n%s\nWARNING: %s\n%s%s\n", strings.Repeat("=", rule), title, releaseLine(), strings.Repeat("-", rule))
}

// foot writes the end of every report.
func foot(w *strings.Builder, all []held) {
	w.WriteString("\n")
	listHeld(w, all)
	w.WriteString("\nstack backtrace:\n")
	stack(w, callers())
}

func listHeld(w *strings.Builder, all []held) {
	switch n := len(all); n {
	case 0:
		fmt.Fprintf(w, "no locks held by %s.\n", who())
	case 1:
		fmt.Fprintf(w, "1 lock held by %s:\n", who())
	default:
		fmt.Fprintf(w, "%d locks held by %s:\n", n, who())
	}
	for i := range all {
		fmt.Fprintf(w, " #%d: %s\n", i, &all[i])
		if more := all[i].more; more > 0 {
			fmt.Fprintf(w, "     and %d more of the class\n", more)
		}
	}
}

func stack(w *strings.Builder, pcs []uintptr) {
	for _, f := range frames(pcs) {
		fmt.Fprintf(w, "       %s\n", f)
	}
}

// acquiring writes the start of reports about two locks.
func acquiring(w *strings.Builder, prev, next *held) {
	fmt.Fprintf(w, "%s is trying to acquire lock:\n%s\n\nbut task is already holding lock:\n%s\n", who(), next, prev)
}

// verb returns the name of an acquisition in a scenario.
func verb(m Mode) string {
	if m.kind() == Exclusive {
		return "lock"
	}
	return "rlock"
}

// circular reports that next is acquired while prev is held, although circle, a
// path of edges, leads from next to prev.
//
// Preconditions of circular and of the other reports: k.mu is held.
func (k *checker) circular(before []held, prev, next *held, circle []*edge) string {
	var w strings.Builder
	head(&w, "possible circular locking dependency detected", 54)
	acquiring(&w, prev, next)
	w.WriteString("\nwhich lock already depends on the new lock.\n\n\n" +
		"the existing dependency chain (in reverse order) is:\n")
	for i := len(circle); i > 0; i-- {
		fmt.Fprintf(&w, "\n-> #%d %s:\n", i, circle[i-1].to.describe())
		stack(&w, circle[i-1].stack)
	}
	fmt.Fprintf(&w, "\n-> #0 %s:\n", next.class.describe())
	stack(&w, callers())

	source, parent, target := next.class.full(), circle[len(circle)-1].from.full(), prev.class.full()
	w.WriteString("\nother info that might help us debug this:\n\n")
	if parent != source {
		fmt.Fprintf(&w, "Chain exists of:\n  %s --> %s --> %s\n\n", source, parent, target)
	}
	if next.how.kind() == Shared && circle[0].kinds&(kindEN|kindER) == 0 {
		threeParties(&w, prev, source, parent, target)
	} else {
		twoParties(&w, prev, next, source, parent, target)
	}
	w.WriteString("\n *** DEADLOCK ***\n")
	foot(&w, before)
	return w.String()
}

// The columns of a scenario, from the left.
const (
	right    = "                               "
	rightest = right + "                        "
)

// twoParties writes the scenario of two tasks that each hold what the other
// waits for.
func twoParties(w *strings.Builder, prev, next *held, source, parent, target string) {
	w.WriteString(" Possible unsafe locking scenario:\n\n" +
		"       CPU0                    CPU1\n" +
		"       ----                    ----\n")
	fmt.Fprintf(w, "  %s(%s);\n", verb(prev.how), target)
	fmt.Fprintf(w, "%slock(%s);\n%slock(%s);\n", right, parent, right, target)
	fmt.Fprintf(w, "  %s(%s);\n", verb(next.how), source)
}

// threeParties writes the scenario of two readers of source, one that holds it
// and one that wants it. Readers do not block each other, so a writer that
// queues between them completes the circle. (Linux leaves the writer out.)
func threeParties(w *strings.Builder, prev *held, source, parent, target string) {
	w.WriteString(" Possible unsafe locking scenario:\n\n" +
		"       CPU0                    CPU1                    CPU2\n" +
		"       ----                    ----                    ----\n")
	fmt.Fprintf(w, "  %s(%s);\n%srlock(%s);\n", verb(prev.how), target, right, source)
	if parent != source {
		fmt.Fprintf(w, "%slock(%s);\n", right, parent)
	}
	fmt.Fprintf(w, "%slock(%s);\n%slock(%s);\n  rlock(%s);\n", right, target, rightest, source, source)
	w.WriteString("\n CPU2 is a queued writer: it waits for the reader CPU1, and the reader CPU0 waits behind it.\n")
}

// recursive reports that next is acquired while prev, of the same class, is
// held.
func (k *checker) recursive(before []held, prev, next *held) string {
	var w strings.Builder
	head(&w, "possible recursive locking detected", 44)
	acquiring(&w, prev, next)
	w.WriteString("\nother info that might help us debug this:\n" +
		" Possible unsafe locking scenario:\n\n" +
		"       CPU0\n" +
		"       ----\n")
	fmt.Fprintf(&w, "  %s(%s);\n  %s(%s);\n", verb(prev.how), prev.class.full(), verb(next.how), next.class.full())
	w.WriteString("\n *** DEADLOCK ***\n\n May be due to missing lock nesting notation\n")
	foot(&w, before)
	return w.String()
}

// unbalanced reports the release of a lock that nobody holds.
func (k *checker) unbalanced(c *Class, lock any) string {
	var w strings.Builder
	head(&w, "bad unlock balance detected!", 37)
	fmt.Fprintf(&w, "%s is trying to release lock (%s) at:\n%p %s\n", who(), c.full(), lock, place(callers()))
	w.WriteString("but there are no more locks to release!\n\nother info that might help us debug this:\n")
	foot(&w, k.heldBy(goroutine()))
	return w.String()
}

// initialized reports that a lock gets a class while it is held.
func (k *checker) initialized(c *Class, lock any) string {
	var w strings.Builder
	head(&w, "held lock freed!", 25)
	fmt.Fprintf(&w, "%s is initializing memory %p as (%s), with a lock still held there!\n", who(), lock, c.full())
	foot(&w, k.heldBy(goroutine()))
	return w.String()
}

// left reports locks that a callback did not release.
func (k *checker) left(all []held) string {
	var w strings.Builder
	head(&w, "lock held when returning from a callback!", 48)
	fmt.Fprintf(&w, "%s is leaving a show, store, work item or publish with locks still held!\n", who())
	foot(&w, all)
	return w.String()
}
