package rcu

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"slabfs/internal/cpu"
	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
	"slabfs/internal/rseq"
	"slabfs/workqueue"
)

// childEnv names the test that a child process is started for.
const childEnv = "SLABFS_TEST_CHILD"

// possibleEnv lists the CPUs that the tests take for possible, instead of the machine's.
const possibleEnv = "SLABFS_TEST_POSSIBLE"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(childEnv) != "" {
		lockdep.UseCond()
	}
	if list := os.Getenv(possibleEnv); list != "" {
		m, err := cpu.ParseList(list)
		if err != nil {
			panic(err)
		}
		cpu.FakePossible(m)
	}
	os.Exit(m.Run())
}

// inChild runs the test again in a process where testing/synctest sees who waits
// for a Mutex, and reports true in that process.
func inChild(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), childEnv+"="+t.Name()), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a child process: %v\n%s", err, out)
	}
	return false
}

// onEngines runs f with a domain of each engine that this build has, and closes
// the domain if f has not.
func onEngines(t *testing.T, f func(t *testing.T, d *Domain)) {
	t.Helper()
	eachEngine(t, func(t *testing.T, run func(*testing.T)) { run(t) }, f)
}

// inBubbles is onEngines with each domain made, used and closed in a bubble, which
// then sees who waits for it.
func inBubbles(t *testing.T, f func(t *testing.T, d *Domain)) {
	t.Helper()
	eachEngine(t, synctest.Test, f)
}

func eachEngine(t *testing.T, in func(t *testing.T, run func(*testing.T)), f func(t *testing.T, d *Domain)) {
	t.Helper()
	for _, sequences := range []bool{false, true} {
		t.Run(map[bool]string{false: "atomics", true: "rseq"}[sequences], func(t *testing.T) {
			in(t, func(t *testing.T) {
				d, err := New(Options{Sequences: sequences})
				if errors.Is(err, rseq.ErrUnsupported) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				f(t, d)
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// must fails the test unless f succeeds.
func must(t testing.TB, f func() error) {
	t.Helper()
	if err := f(); err != nil {
		t.Error(err)
	}
}

// expectPanic runs f, which has to panic with a text that holds want.
func expectPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
			t.Errorf("panic: %s; want one that holds %q", got, want)
		}
	}()
	f()
}

// start runs f in a goroutine of a bubble and returns a function that reports
// whether f has returned when nothing moves any more.
func start(f func()) (done func() bool) {
	var flag atomic.Bool
	go func() {
		f()
		flag.Store(true)
	}()
	done = func() bool {
		synctest.Wait()
		return flag.Load()
	}
	done()
	return done
}

// A grace period waits for the readers of its begin, however they nest and
// overlap, and for no others. In a bubble, where each wait can be seen.
func TestGracePeriod(t *testing.T) {
	if !inChild(t) {
		return
	}
	inBubbles(t, func(t *testing.T, d *Domain) {
		sync := func() func() bool { return start(func() { must(t, d.Synchronize) }) }
		unlock := func(tokens ...Token) {
			for _, token := range tokens {
				d.ReadUnlock(token)
			}
		}
		if !sync()() {
			t.Fatal("Synchronize waits though nobody reads")
		}
		first, nested, other := d.lockAside(), d.lockAside(), d.lockAside()
		waits := sync()
		late := d.lockAside()
		lateWaits := sync()
		for i, token := range []Token{nested, first, other} {
			if waits() {
				t.Fatalf("Synchronize has returned with %d readers left", 3-i)
			}
			unlock(token)
		}
		if !waits() {
			t.Error("Synchronize still waits, for a reader that came later")
		}
		if lateWaits() {
			t.Error("a later Synchronize does not wait for a reader before it")
		}
		unlock(late)
		if !lateWaits() {
			t.Error("Synchronize waits for nobody")
		}
		// More of them than there are phases, one after the other.
		for range 5 {
			r := d.lockAside()
			waits := sync()
			if waits() {
				t.Fatal("Synchronize does not wait")
			}
			unlock(r)
			if !waits() {
				t.Fatal("Synchronize waits for nobody")
			}
		}
		must(t, d.Close)
	})
}

// lockAside begins a section in another goroutine, so that this one may wait.
func (d *Domain) lockAside() (token Token) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		token = d.ReadLock()
	}()
	<-done
	return token
}

// Callers who wait at the same time share a grace period: those that come while
// one is under way need just one more.
func TestShared(t *testing.T) {
	if !inChild(t) {
		return
	}
	inBubbles(t, func(t *testing.T, d *Domain) {
		r := d.lockAside()
		before := d.Stats().GracePeriods
		var all []func() bool
		for range 100 {
			all = append(all, start(func() { must(t, d.Synchronize) }))
		}
		d.ReadUnlock(r)
		for _, done := range all {
			if !done() {
				t.Fatal("a caller still waits")
			}
		}
		if n := d.Stats().GracePeriods - before; n != 2 {
			t.Errorf("%d grace periods for 100 callers; want 2", n)
		}
		must(t, d.Close)
	})
}

// Callbacks: after a grace period, in order, with no lock held, one grace period
// for all that wait.
func TestCall(t *testing.T) {
	if !inChild(t) {
		return
	}
	inBubbles(t, func(t *testing.T, d *Domain) {
		const n = 1000
		var got []int
		before := d.Stats()
		r := d.lockAside()
		for i := range n {
			d.Call(func() {
				got = append(got, i)
				if !lockdep.InCallback() {
					t.Error("a callback does not run as one")
				}
				must(t, d.Synchronize) // it may wait
				if i == 0 {
					d.Call(func() { got = append(got, n) }) // or queue more
				}
			})
		}
		waits := start(func() { must(t, d.Barrier) })
		if waits() || len(got) > 0 {
			t.Fatalf("%d callbacks have run though a reader is there", len(got))
		}
		d.ReadUnlock(r)
		if !waits() || len(got) < n {
			t.Fatalf("%d callbacks have run after Barrier; want %d", len(got), n)
		}
		must(t, d.Barrier)
		if len(got) != n+1 || !slices.IsSorted(got) {
			t.Errorf("%d callbacks have run; want %d, in their order", len(got), n+1)
		}
		// One for those that the worker found when it came, if it came before the
		// last; one for all others; one for that of the callback.
		s := d.Stats()
		if batches := s.Batches - before.Batches; batches > 3 {
			t.Errorf("%d grace periods for callbacks; want 2 or 3", batches)
		}
		if s.Called != s.Ran || s.Called != n+1 {
			t.Errorf("%d callbacks accepted, %d have run; want %d", s.Called, s.Ran, n+1)
		}
		must(t, d.Close)
	})
}

// Without readers, and with all processors, calls that come in a row share grace periods too.
func TestCallShares(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		const n = 1000
		var ran atomic.Int64
		// The first callback holds the domain's goroutine until all others are queued.
		hold := make(chan struct{})
		d.Call(func() { <-hold })
		for range n {
			d.Call(func() { ran.Add(1) })
		}
		close(hold)
		must(t, d.Barrier)
		if s := d.Stats(); ran.Load() != n || s.Batches > 3 {
			t.Errorf("%d of %d callbacks have run, after %d grace periods; want 2 or 3", ran.Load(), n, s.Batches)
		}
	})
}

// A callback that ends its goroutine takes no others with it.
func TestGoexit(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		var ran atomic.Int64
		for range 100 {
			d.Call(func() {
				ran.Add(1)
				runtime.Goexit()
			})
		}
		must(t, d.Barrier)
		if ran.Load() != 100 {
			t.Errorf("%d of 100 callbacks have run", ran.Load())
		}
	})
}

// Close runs what callbacks queue, and leaves no goroutine: the bubble would not
// end. It can be called again.
func TestClose(t *testing.T) {
	if !inChild(t) {
		return
	}
	inBubbles(t, func(t *testing.T, d *Domain) {
		ran := 0
		var again func()
		again = func() {
			if ran++; ran < 20 {
				d.Call(again)
			}
		}
		d.Call(again)
		r := d.lockAside()
		waits := start(func() { must(t, d.Close) })
		if waits() {
			t.Fatal("Close does not wait for a reader")
		}
		d.ReadUnlock(r)
		if !waits() || ran != 20 {
			t.Errorf("Close has run %d callbacks; want 20", ran)
		}
		must(t, d.Close)
		must(t, d.Synchronize)
		must(t, d.Barrier)
		expectPanic(t, "read lock of a closed domain", func() { d.ReadLock() })
		expectPanic(t, "call on a closed domain", func() { d.Call(func() {}) })
	})
}

// What would wait for itself says so where that can be told.
func TestSelfWait(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		done := make(chan struct{})
		d.Call(func() {
			defer close(done)
			expectPanic(t, "waits for itself", func() { _ = d.Barrier() })
			expectPanic(t, "waits for itself", func() { _ = d.Close() })
			must(t, d.Synchronize)
		})
		<-done
		if invariants.Enabled {
			token := d.ReadLock()
			expectPanic(t, "Synchronize inside a read-side section", func() { _ = d.Synchronize() })
			expectPanic(t, "Barrier inside a read-side section", func() { _ = d.Barrier() })
			expectPanic(t, "inside a read-side section", func() { _ = d.Close() })
			d.ReadUnlock(token)
		}
	})
}

// Another queue's item may wait for callbacks, as the release of caches does.
func TestBarrierFromWork(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		q := workqueue.New("release", workqueue.Options{})
		ran, after := false, false
		d.Call(func() { ran = true })
		release := q.NewWork(func() {
			must(t, d.Barrier)
			after = ran
		})
		if _, err := release.Queue(); err != nil {
			t.Fatal(err)
		}
		q.Destroy()
		if !after {
			t.Error("the callback has not run after Barrier")
		}
	})
}

func TestMisuse(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		expectPanic(t, "the token is zero", func() { d.ReadUnlock(Token{}) })
		expectPanic(t, "nil function", func() { d.Call(nil) })
		must(t, d.Synchronize)
		token := d.ReadLock()
		d.ReadUnlock(token)
		d.ReadUnlock(token)
		expectPanic(t, "ended more often than they began", func() { _ = d.Synchronize() })
		d.slow[0].counters[token.phase/8].Add(1) // so that it can be closed
		must(t, d.Synchronize)
	})
}

// Counters may wrap: only their sums count, modulo 2^64.
func TestWrap(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		d.ReadUnlock(d.ReadLock())
		for i := range d.slow {
			for word := range d.slow[i].counters {
				d.slow[i].counters[word].Store(^uint64(0) - 10)
			}
		}
		for i := range d.open {
			d.openCPU(i) // Close zeroes no others, and the next domain may get their place
			for word := wordLocks; word < len(d.slow[i].counters); word++ {
				d.cpus[i][word].Store(^uint64(0) - 10)
			}
		}
		for range 50 {
			token := d.ReadLock()
			done := make(chan struct{})
			go func() {
				must(t, d.Synchronize)
				close(done)
			}()
			for range 20 {
				d.ReadUnlock(d.ReadLock())
			}
			select {
			case <-done:
				t.Fatal("Synchronize has not waited")
			default:
			}
			d.ReadUnlock(token)
			<-done
		}
	})
}

// A section ends on another goroutine, thread and CPU than it began.
func TestEndsElsewhere(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		tokens := make(chan Token)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 500 {
					tokens <- d.ReadLock()
				}
			})
			wg.Go(func() {
				for range 500 {
					d.ReadUnlock(<-tokens)
				}
			})
		}
		wg.Wait()
		must(t, d.Synchronize) // which panics, or never returns, if the sums differ
	})
}

// Readers on a CPU that is not possible count by atomics.
func TestCPUBeyondMask(t *testing.T) {
	if !inChild(t, possibleEnv+"=0") {
		return
	}
	onEngines(t, func(t *testing.T, d *Domain) {
		for n := range 4 {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer pin(n)()
				for range 100 {
					token := d.ReadLock()
					runtime.Gosched()
					d.ReadUnlock(token)
				}
			}()
			<-done
			must(t, d.Synchronize)
		}
		if s := d.Stats(); s.Sequences+s.Atomics != 400 || len(d.slow) != 1 {
			t.Errorf("%d sections by sequences and %d by atomics; want 400 in all", s.Sequences, s.Atomics)
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		if n := testing.AllocsPerRun(100, func() { d.ReadUnlock(d.ReadLock()) }); n != 0 && !invariants.Enabled {
			t.Errorf("a section makes %v heap allocations; want 0", n)
		}
	})
}

// The race detector sees what readers did before what follows a grace period.
func TestRaceDetector(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		var current atomic.Pointer[int]
		current.Store(new(int))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				sum := 0
				for {
					select {
					case <-stop:
						return
					default:
					}
					token := d.ReadLock()
					sum += *current.Load()
					d.ReadUnlock(token)
				}
			})
		}
		old := new(int)
		for i := range 200 {
			old = current.Swap(old)
			if i%2 == 0 {
				must(t, d.Synchronize)
			} else {
				d.Call(func() { *old++ })
				must(t, d.Barrier)
			}
			*old = i // plain: nobody reads it any more
		}
		close(stop)
		wg.Wait()
	})
}
