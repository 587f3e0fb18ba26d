package lockdep

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var byName sync.Map // classes live for ever: tests that run again use theirs again

func class(name string) *Class {
	c, _ := byName.LoadOrStore(name, NewClass(name))
	return c.(*Class)
}

// lock returns a Mutex of a class.
func lock(c *Class) *Mutex {
	m := new(Mutex)
	m.Init(c)
	return m
}

func mustReport(t *testing.T, report string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(report, w) {
			t.Errorf("no %q in the report:\n%s", w, report)
		}
	}
}

// TestReport compares a report with Linux's, line by line.
func TestReport(t *testing.T) {
	outer, middle, inner := class("outer"), class("middle"), class("inner")
	report := Alone(func() {
		a, b, c := lock(outer), new(RWSem), lock(inner)
		b.Init(middle)
		a.Lock()
		b.RLock()
		b.RUnlock()
		a.Unlock()
		b.Lock()
		c.Lock()
		c.Unlock()
		b.Unlock()
		c.Lock()
		a.Lock()
		a.Unlock()
		c.Unlock()
	})
	const frame = `(?:       \S+ \S+/\S+\.(?:go|s):\d+\n)+`
	const at = `at: slabfs/internal/lockdep\.TestReport\.func1\+0x[0-9a-f]+ lockdep/check_test\.go:\d+\n`
	want := regexp.MustCompile(`^
={54}
WARNING: possible circular locking dependency detected
go\S+ #\S+ Not tainted
-{54}
lockdep\.test/\d+ is trying to acquire lock:
0x[0-9a-f]+ \(outer\)\{\+\.\+\.\}-\{3:3\}, ` + at + `
but task is already holding lock:
0x[0-9a-f]+ \(inner\)\{\+\.\+\.\}-\{3:3\}, ` + at + `
which lock already depends on the new lock\.


the existing dependency chain \(in reverse order\) is:

-> #2 \(inner\)\{\+\.\+\.\}-\{3:3\}:
` + frame + `
-> #1 \(middle\)\{\+\+\+\+\}-\{0:0\}:
` + frame + `
-> #0 \(outer\)\{\+\.\+\.\}-\{3:3\}:
` + frame + `
other info that might help us debug this:

Chain exists of:
  outer --> middle --> inner

 Possible unsafe locking scenario:

       CPU0                    CPU1
       ----                    ----
  lock\(inner\);
                               lock\(middle\);
                               lock\(inner\);
  lock\(outer\);

 \*\*\* DEADLOCK \*\*\*

1 lock held by lockdep\.test/\d+:
 #0: 0x[0-9a-f]+ \(inner\)\{\+\.\+\.\}-\{3:3\}, ` + at + `
stack backtrace:
` + frame + `$`)
	if !want.MatchString(report) {
		t.Errorf("report:\n%s\nwant:\n%s", report, want)
	}
}

// Readers of one lock do not block each other. A report names the writer that
// has to queue between them.
func TestReportQueuedWriter(t *testing.T) {
	for _, tc := range []struct {
		name     string
		how      func(*RWSem) // holds the lock when inner is taken
		unlock   func(*RWSem)
		scenario string
	}{
		{"readers", (*RWSem).RLock, (*RWSem).RUnlock, `
       CPU0                    CPU1                    CPU2
       ----                    ----                    ----
  lock(inner);
                               rlock(sem);
                               lock(inner);
                                                       lock(sem);
  rlock(sem);

 CPU2 is a queued writer: it waits for the reader CPU1, and the reader CPU0 waits behind it.

 *** DEADLOCK ***
`},
		{"writer", (*RWSem).Lock, (*RWSem).Unlock, `
       CPU0                    CPU1
       ----                    ----
  lock(inner);
                               lock(sem);
                               lock(inner);
  rlock(sem);

 *** DEADLOCK ***
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sem, inner := class("sem"), class("inner")
			mustReport(t, Alone(func() {
				a, b := new(RWSem), lock(inner)
				a.Init(sem)
				tc.how(a)
				b.Lock()
				b.Unlock()
				tc.unlock(a)
				b.Lock()
				a.RLock()
				a.RUnlock()
				b.Unlock()
			}), tc.scenario)
		})
	}
}

// TestOnce finds two violations: both are counted, each once, one is reported.
func TestOnce(t *testing.T) {
	a, b, c := class("a"), class("b"), class("c")
	Alone(func() {
		for range 3 {
			for _, pair := range [][2]*Class{{a, b}, {b, a}, {a, c}, {c, a}} {
				x, y := lock(pair[0]), lock(pair[1])
				x.Lock()
				y.Lock()
				y.Unlock()
				x.Unlock()
			}
		}
		if n := Violations(); n != 2 {
			t.Errorf("%d violations; want 2", n)
		}
		mustReport(t, Report(), "possible circular", "(a)", "(b)")
		if strings.Contains(Report(), "(c)") {
			t.Errorf("the report is not of the first:\n%s", Report())
		}
	})
}

func TestNested(t *testing.T) {
	outer := class("nest")
	inner, leaf := class("nested").nestedIn(outer), class("below")
	ranks := func(i int) int { return i }
	all := func(under Mode, turn func(i int) int) string {
		return Alone(func() {
			s := new(RWSem)
			s.Init(outer)
			switch under {
			case Exclusive:
				s.Lock()
				defer s.Unlock()
			case Shared:
				s.RLock()
				defer s.RUnlock()
			}
			var locks []sync.Locker
			for i := range 5 {
				if i%2 == 0 {
					locks = append(locks, lock(inner))
					continue
				}
				s := new(Spin)
				s.Init(inner)
				locks = append(locks, s)
			}
			for i := range locks {
				locks[ranks(i)].Lock()
			}
			l := lock(leaf)
			l.Lock()
			l.Unlock()
			for i := range locks {
				locks[turn(i)].Unlock()
			}
			if depth() > 1 {
				t.Errorf("%d locks are held after all were released", depth())
			}
		})
	}
	forward, backward := func(i int) int { return i }, func(i int) int { return 4 - i }
	for _, turn := range []func(int) int{forward, backward} {
		if report := all(Exclusive, turn); report != "" {
			t.Errorf("nested locks under the lock that orders them:\n%s", report)
		}
		mustReport(t, all(Shared, turn), "possible recursive locking")
		mustReport(t, all(Try, turn), "possible recursive locking")
	}
	ranks = backward
	mustReport(t, all(Exclusive, forward), "possible recursive locking", "2 locks held by")
}

// TestNestedBehindAnother takes a further lock of a nested class below a class that is
// taken under it, which what orders the nested locks does not allow.
func TestNestedBehindAnother(t *testing.T) {
	outer, below := class("nest"), class("below")
	inner := class("nested").nestedIn(outer)
	mustReport(t, Alone(func() {
		all := []*Mutex{lock(outer), lock(inner), lock(below), lock(inner)}
		for _, m := range all {
			m.Lock()
		}
		for _, m := range all {
			m.Unlock()
		}
	}), "possible circular locking dependency", "(nested)", "(below)")
}

// TestInterrupted gives up a wait: what follows is not under that lock.
func TestInterrupted(t *testing.T) {
	a, b := class("a"), class("b")
	report := Alone(func() {
		s, m := new(RWSem), lock(b)
		s.Init(a)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		held, release := make(chan bool), make(chan bool)
		go func() {
			s.Lock()
			held <- true
			<-release
			s.Unlock()
			held <- false
		}()
		<-held
		for _, wait := range []func(context.Context) error{s.RLockContext, s.LockContext} {
			if wait(ended) == nil {
				t.Error("an interrupted wait got the lock")
			}
			m.Lock()
			m.Unlock()
		}
		release <- true
		<-held
		m.Lock()
		s.RLock()
		s.RUnlock()
		m.Unlock()
	})
	if report != "" {
		t.Errorf("reported:\n%s", report)
	}
}

// TestElsewhere releases locks on another goroutine than the one that acquired them.
func TestElsewhere(t *testing.T) {
	a, b := class("a"), class("b")
	report := Alone(func() {
		m, s, p, n := lock(a), new(RWSem), new(Spin), lock(b)
		s.Init(a)
		p.Init(a)
		for _, pair := range [][2]func(){{m.Lock, m.Unlock}, {p.Lock, p.Unlock}, {s.Lock, s.Unlock}, {s.RLock, s.RUnlock}} {
			pair[0]()
			var wg sync.WaitGroup
			wg.Go(pair[1])
			wg.Wait()
			n.Lock() // not under a
			pair[0]()
			pair[1]()
			n.Unlock()
			if n := depth(); n != 0 {
				t.Errorf("%d locks are held after another goroutine released them", n)
			}
		}
	})
	if report != "" {
		t.Errorf("reported:\n%s", report)
	}
}

// TestMisuse is about single locks, not about their order.
func TestMisuse(t *testing.T) {
	bothModes(t, func(t *testing.T) {
		c := class("misused")
		mustReport(t, Alone(func() {
			m := lock(c)
			m.Lock()
			m.Init(c)
			m.Unlock()
		}), "held lock freed!", "(misused)")
		mustReport(t, Alone(func() {
			s := new(RWSem)
			s.Init(c)
			defer func() { _ = recover() }()
			s.RLock()
			s.RUnlock()
			s.RUnlock()
		}), "bad unlock balance detected!", "release lock (misused)")
		if useCond { // else the program ends: below
			mustReport(t, Alone(func() {
				m := lock(c)
				defer func() { _ = recover() }()
				m.Unlock()
			}), "bad unlock balance detected!", "but there are no more locks to release!")
		}
		mustReport(t, Alone(func() {
			m := lock(c)
			func() {
				defer Callback()()
				m.Lock()
			}()
			m.Unlock()
		}), "lock held when returning from a callback!", "1 lock held by")
		if report := Alone(func() {
			m := lock(c)
			m.Lock()
			func() { defer Callback()() }()
			m.Unlock()
		}); report != "" {
			t.Errorf("a callback under a lock that its caller holds:\n%s", report)
		}
	})
}

// TestEnable runs this test again in a program that checks from the start, or
// begins to while it holds a lock.
func TestEnable(t *testing.T) {
	switch os.Getenv("LOCKDEP_TEST_ENABLE") {
	case "late":
		m, n, s := lock(class("m")), lock(class("n")), new(Spin)
		s.Init(class("s"))
		m.Lock()
		s.Lock()
		Enable()
		n.Lock()
		n.Unlock()
		s.Unlock()
		m.Unlock()
		return
	case "wrong":
		a, b := class("a"), class("b")
		for _, pair := range [][2]*Mutex{{lock(a), lock(b)}, {lock(b), lock(a)}} {
			pair[0].Lock()
			pair[1].Lock()
			pair[1].Unlock()
			pair[0].Unlock()
		}
		os.Exit(Status(0))
	case "unlock":
		lock(class("a")).Unlock()
	}
	for _, tc := range []struct {
		mode, on string
		want     string
	}{
		{"late", "", ""}, {"late", "1", ""},
		{"wrong", "", ""},
		{"wrong", "1", "lockdep: 1 violations; the first was:\n\n===="},
		{"unlock", "1", "WARNING: bad unlock balance detected!"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEnable$")
		cmd.Env = append(os.Environ(), "LOCKDEP_TEST_ENABLE="+tc.mode, "SLABFS_LOCKDEP="+tc.on)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (tc.want == "") || !strings.Contains(string(out), tc.want) {
			t.Errorf("%s with SLABFS_LOCKDEP=%q: %v; want %q in:\n%s", tc.mode, tc.on, err, tc.want, out)
		}
	}
}

// TestFiles reads what proc shows.
func TestFiles(t *testing.T) {
	a, b, c := class("files_a"), class("files_b"), class("files_c")
	Alone(func() {
		x, y, z := lock(a), lock(b), lock(c)
		for range 2 {
			x.Lock()
			y.Lock()
			y.Unlock()
			z.Lock()
			z.Unlock()
			x.Unlock()
		}
		var classes, chains, stats, dot strings.Builder
		for w, f := range map[*strings.Builder]func() error{
			&classes: func() error { return WriteClasses(&classes) },
			&chains:  func() error { return WriteChains(&chains) },
			&stats:   func() error { return WriteStats(&stats) },
			&dot:     func() error { return WriteDOT(&dot) },
		} {
			if err := f(); err != nil || w.Len() == 0 {
				t.Errorf("%q, %v", w, err)
			}
		}
		for _, tc := range []struct{ text, want string }{
			{classes.String(), `^all lock classes:\n`},
			{classes.String(), `\n0x[0-9a-f]+ OPS:[ 0-9]{8} FD: {4}3 BD: {4}1 \+\.\+\.: files_a\n -> \[0x[0-9a-f]+\] files_b\n -> \[0x[0-9a-f]+\] files_c\n\n`},
			{classes.String(), `\n0x[0-9a-f]+ OPS:[ 0-9]{8} FD: {4}1 BD: {4}2 \+\.\+\.: files_b\n\n`},
			{chains.String(), `^all lock chains:\nirq_context: 0\n\[0x[0-9a-f]+\] files_a\n\nirq_context: 0\n\[0x[0-9a-f]+\] files_a\n\[0x[0-9a-f]+\] files_b\n\n`},
			{stats.String(), `\n direct dependencies: +2\n dependency chains: +3 \[max: \d+\]\n dependency chain hlocks used: +5\n chain lookup misses: +3\n chain lookup hits: +3\n`},
			{dot.String(), `^digraph lockdep \{\n.*\n\t"files_a" -> "files_b";\n\t"files_a";\n\t"files_b" \[label="files_b\\nfiles_c"\];\n\}\n$`},
		} {
			if !regexp.MustCompile(tc.want).MatchString(tc.text) {
				t.Errorf("no %q in:\n%s", tc.want, tc.text)
			}
		}
	})
}

// TestParallel takes locks in their order everywhere at once, and in many chains.
func TestParallel(t *testing.T) {
	var all [12]*Class
	for i := range all {
		all[i] = class(fmt.Sprint("parallel", i))
	}
	if report := Alone(func() {
		var locks [len(all)]*Mutex
		for i, c := range all {
			locks[i] = lock(c)
		}
		var wg sync.WaitGroup
		for g := range 4 * runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				for n := range 500 {
					set := (n*31 + g*17) % (1 << len(all))
					for i, l := range locks {
						if set>>i&1 != 0 {
							l.Lock()
						}
					}
					for i := len(locks) - 1; i >= 0; i-- {
						if set>>i&1 != 0 {
							locks[i].Unlock()
						}
					}
				}
			})
		}
		wg.Wait()
	}); report != "" {
		t.Errorf("reported:\n%s", report)
	}
}

// TestFull asks for more classes and chains than there is room for: what has no
// room is not checked, or checked each time.
func TestFull(t *testing.T) {
	k := newChains()
	for i := range uint64(maxChains + 100) {
		if !k.add(mix(i), nil, &held{class: List}) {
			t.Fatalf("chain %d is there before it was added", i)
		}
	}
	if len(k.list) != maxChains || !k.has(mix(maxChains-1)) || k.has(mix(maxChains)) {
		t.Errorf("%d chains; want %d, and not the next", len(k.list), maxChains)
	}
	var r registry
	for i := range maxClasses + 1 {
		c := NewClass("many")
		if got, want := r.register(c, nil) > 0, i < maxClasses; got != want || c.use(nil, Exclusive) != want {
			t.Fatalf("class %d is checked: %v; want %v", i, got, want)
		}
	}
	if r.refused != 1 || r.room() {
		t.Errorf("%d classes were refused; want 1, and no room", r.refused)
	}
}

func TestNoGoMemory(t *testing.T) {
	Alone(func() {
		a, b := lock(class("a")), lock(class("b"))
		want := 4 * testing.AllocsPerRun(100, func() { Goroutine() }) // where that is not assembly
		if n := testing.AllocsPerRun(100, func() {
			a.Lock()
			b.Lock()
			b.Unlock()
			a.Unlock()
		}); n != want {
			t.Errorf("two locks taken in a known order: %v Go allocations; want %v", n, want)
		}
	})
}
