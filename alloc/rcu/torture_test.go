package rcu

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	updatesFlag  = flag.Int("slabfs.updates", 500, "elements that the torture test replaces")
	seedFlag     = flag.Uint64("slabfs.seed", 0, "seed of random tests; 0: a new one each time")
	deadlineFlag = flag.Duration("slabfs.deadline", 3*time.Minute, "how long the torture test may take")
)

// pipe is how many ages an element goes through before it is used again. A reader
// that a grace period overlooked sees one of them.
const pipe = 10

// An element's age is 0 while it can be found, 1 when it was replaced, and one
// more after each grace period since. No reader may see an age above 1.
type element struct{ age atomic.Int32 }

// A torturer is one run: readers that fetch the current element, updaters that
// replace it.
type torturer struct {
	d       *Domain
	current atomic.Pointer[element]
	unused  chan *element
	kinds   []int        // of readers
	left    atomic.Int64 // updates to be made
	broken  atomic.Pointer[string]
	reads   [kinds]atomic.Int64
	began   time.Time
}

func (x *torturer) fail(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	x.broken.CompareAndSwap(nil, &s)
}

func (x *torturer) over() bool {
	if x.broken.Load() != nil {
		return true
	}
	if time.Since(x.began) > *deadlineFlag {
		x.fail("out of time, with %d updates left", x.left.Load())
	}
	if x.left.Load() > 0 {
		return false
	}
	for _, kind := range x.kinds {
		if x.reads[kind].Load() < 100 {
			return false
		}
	}
	return true
}

// What readers do in a section.
const (
	tight = iota
	spinning
	yielding
	sleeping
	blocking
	nesting
	passing
	moving
	long
	kinds
)

var kindNames = [kinds]string{"tight", "spinning", "yielding", "sleeping", "blocking", "nesting", "passing on", "moving", "long"}

// read runs one section.
func (x *torturer) read(kind int, r *rand.Rand) {
	token := x.d.ReadLock()
	e := x.current.Load()
	check := func() {
		if age := e.age.Load(); age > 1 {
			x.fail("a %s reader sees an element of age %d", kindNames[kind], age)
		}
	}
	switch kind {
	case spinning:
		for range r.IntN(1000) {
			check()
		}
	case long:
		for range 1 << r.IntN(15) {
			check()
		}
	case yielding:
		for range r.IntN(4) {
			runtime.Gosched()
		}
	case sleeping:
		time.Sleep(time.Duration(r.IntN(100)) * time.Microsecond)
	case blocking:
		c := make(chan int)
		go func() { c <- 0 }()
		<-c
	case nesting:
		inner := x.d.ReadLock()
		check()
		e = x.current.Load() // which the inner one protects, as long as that lasts
		x.d.ReadUnlock(token)
		token = inner
		runtime.Gosched()
	case passing:
		done := make(chan int)
		go func() {
			check()
			x.d.ReadUnlock(token)
			close(done)
		}()
		<-done
		x.reads[kind].Add(1)
		return
	case moving:
		move(r)
	}
	check()
	x.d.ReadUnlock(token)
	x.reads[kind].Add(1)
}

// update replaces the current element and returns the old one.
func (x *torturer) update(e *element) *element {
	e.age.Store(0)
	old := x.current.Swap(e)
	if age := old.age.Swap(1); age != 0 {
		x.fail("the current element has age %d", age)
	}
	x.left.Add(-1)
	return old
}

// older adds a grace period to an element's age, and reports whether it is to go on.
func (x *torturer) older(e *element) bool {
	if e.age.Add(1) < pipe {
		return true
	}
	x.unused <- e
	return false
}

// byCall has callbacks make elements older, each of which queues the next.
func (x *torturer) byCall(r *rand.Rand) {
	select {
	case e := <-x.unused:
		old := x.update(e)
		var again func()
		again = func() {
			if x.older(old) {
				x.d.Call(again)
			}
		}
		x.d.Call(again)
	default: // all are in the pipe
		runtime.Gosched()
	}
	if r.IntN(50) == 0 {
		if err := x.d.Barrier(); err != nil {
			x.fail("%v", err)
		}
	}
}

// bySynchronize waits for each grace period itself, several at a time.
func (x *torturer) bySynchronize(r *rand.Rand) {
	var mine []*element
	for i, n := 0, r.IntN(100); i == 0 || len(mine) > 0; i++ {
		if i <= n {
			select {
			case e := <-x.unused:
				mine = append(mine, x.update(e))
			default:
			}
		}
		if err := x.d.Synchronize(); err != nil {
			x.fail("%v", err)
			return
		}
		kept := mine[:0]
		for _, e := range mine {
			if x.older(e) {
				kept = append(kept, e)
			}
		}
		mine = kept
	}
}

// byBarrier waits for a callback to have run, which is a grace period too.
func (x *torturer) byBarrier(*rand.Rand) {
	select {
	case e := <-x.unused:
		old := x.update(e)
		for more := true; more; {
			more = false
			x.d.Call(func() { more = x.older(old) })
			if err := x.d.Barrier(); err != nil {
				x.fail("%v", err)
				return
			}
		}
	default:
		runtime.Gosched()
	}
}

// byTurns takes CPUs away from sequences and gives them back, so that sections
// begin by sequences and by atomics and end the other way.
func (x *torturer) byTurns(r *rand.Rand) {
	for n := range x.d.open {
		if x.d.open[n].Load() {
			x.d.cpus[n][0].Store(r.Uint64N(2))
		}
	}
	time.Sleep(time.Millisecond)
}

// torture has readers and updaters meet, in the way of rcutorture, Linux's test of
// RCU.
func torture(t *testing.T, d *Domain, updates int, kinds []int, updaters []func(*torturer, *rand.Rand)) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-slabfs.seed=%d", seed)
	const elements = 64
	x := &torturer{d: d, kinds: kinds, unused: make(chan *element, elements), began: time.Now()}
	x.left.Store(int64(updates))
	x.current.Store(new(element))
	for range elements - 1 {
		x.unused <- new(element)
	}
	var wg sync.WaitGroup
	n := uint64(0)
	run := func(f func(*rand.Rand)) {
		n++
		r := rand.New(rand.NewPCG(seed, n))
		cpu := int(n)
		wg.Go(func() {
			if len(kinds) == 1 {
				defer pin(cpu)()
			}
			for !x.over() {
				f(r)
			}
		})
	}
	for _, kind := range kinds {
		run(func(r *rand.Rand) {
			x.read(kind, r)
			if r.IntN(100) == 0 {
				runtime.Gosched() // with few processors each grace period would take many time slices
			}
		})
	}
	for _, f := range updaters {
		run(func(r *rand.Rand) { f(x, r) })
	}
	wg.Wait()
	if x.broken.Load() == nil { // else what follows may never end
		for range pipe {
			must(t, d.Barrier)
		}
		if len(x.unused) != elements-1 {
			x.fail("%d elements are back; want %d", len(x.unused), elements-1)
		}
	}
	s := d.Stats()
	t.Logf("%d updates, %d grace periods, sections: %d by sequences, %d by atomics, in %v",
		int64(updates)-x.left.Load(), s.GracePeriods, s.Sequences, s.Atomics, time.Since(x.began).Round(time.Millisecond))
	if len(d.cpus) > 0 && s.Sequences == 0 {
		x.fail("no section began by a sequence")
	}
	if why := x.broken.Load(); why != nil {
		t.Fatalf("after %v: %s", time.Since(x.began), *why)
	}
}

// All that readers may do, so that grace periods wait for some all the time.
func TestTorture(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		torture(t, d, *updatesFlag,
			[]int{tight, spinning, yielding, sleeping, blocking, nesting, passing, moving, tight, spinning},
			[]func(*torturer, *rand.Rand){(*torturer).byCall, (*torturer).bySynchronize, (*torturer).bySynchronize, (*torturer).byBarrier, (*torturer).byTurns})
	})
}

// Grace periods in less time than a reader needs: one that a grace period
// overlooked is still there when the next one ends.
func TestRush(t *testing.T) {
	onEngines(t, func(t *testing.T, d *Domain) {
		torture(t, d, 20**updatesFlag, []int{long}, []func(*torturer, *rand.Rand){(*torturer).bySynchronize})
	})
}
