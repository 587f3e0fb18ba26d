package alloc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/percpu"
)

func sum(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// A tally is what clears have taken away from the events of a cache.
type tally [numEvents]atomic.Uint64

// total returns how often an event has happened, clears or not, on a CPU that is offline or not.
func (y *tally) total(c *Cache, e Event) uint64 {
	h := c.core.a.Hotplug()
	h.RLock()
	defer h.RUnlock()
	n := y[e].Load() + sum(c.Events(e))
	for i := range h.Possible().All() {
		if !h.Online().Has(i) && !c.core.released.Load() {
			n += c.core.cpus[i].happened(e)
		}
	}
	return n
}

func (y *tally) allocs(c *Cache) int64 {
	return int64(y.total(c, AllocFastpath) + y.total(c, AllocSlowpath))
}

func (y *tally) frees(c *Cache) int64 {
	return int64(y.total(c, FreeFastpath) + y.total(c, FreeSlowpath))
}

// check fails unless a cache that nobody uses has counted each object that was
// handed out or taken back once, and its slabs.
func (y *tally) check(tb testing.TB, c *Cache, allocs, frees int64) {
	tb.Helper()
	if a, f := y.allocs(c), y.frees(c); a != allocs || f != frees {
		tb.Errorf("%d objects counted that were handed out, %d that were taken back; want %d, %d", a, f, allocs, frees)
	}
	made, gone := y.total(c, AllocSlab), y.total(c, FreeSlab)
	if slabs := c.Stats().Slabs; made-gone != uint64(slabs) {
		tb.Errorf("%d slabs counted that were made, %d that are gone; but there are %d", made, gone, slabs)
	}
}

// clearSome returns an actor that clears events.
func clearSome(t *testing.T, c *Cache, y *tally) func(*rand.Rand) {
	return func(r *rand.Rand) {
		e := Event(r.IntN(int(numEvents)))
		if r.IntN(2) == 0 {
			e %= FreeSlowpath + 1
		}
		n, err := c.core.clearEvents(context.Background(), e)
		if err != nil {
			t.Error(err)
		}
		y[e].Add(n)
		if n >= 1<<40 {
			t.Errorf("%d times %v", n, e)
		}
	}
}

// retune returns an actor that changes the capacity of sheaves.
func retune(t *testing.T, c *Cache, _ *tally) func(*rand.Rand) {
	most := uint(c.core.sheafMax)
	capacities := []uint{0, 1, 2, most / 2, most/2 | 1, most - 1, most, most, most}
	return func(r *rand.Rand) {
		want := capacities[r.IntN(len(capacities))]
		if err := c.SetSheafCapacity(want); err != nil {
			t.Error(err)
		}
		if err := c.SetSheafCapacity(most + 1 + uint(r.Uint64N(1<<40))); !errors.Is(err, ErrInvalid) {
			t.Errorf("SetSheafCapacity of more than %d: %v; want ErrInvalid", most, err)
		}
		if got := c.SheafCapacity(); got != want {
			t.Errorf("capacity %d after SetSheafCapacity(%d)", got, want)
		}
	}
}

// engines are those that tests run on: what is there, and the lock engine.
func engines(t *testing.T, f func(t *testing.T, a *Allocator)) {
	t.Helper()
	for _, e := range []Engine{Auto, Lock} {
		t.Run(fmt.Sprintf("engine=%v", e), func(t *testing.T) { f(t, newAllocator(t, Options{Engine: e})) })
	}
}

// A holder holds objects of a cache, and frees those first that it has held longest.
type holder struct {
	t    *testing.T
	c    *Cache
	objs []unsafe.Pointer
}

func (h *holder) allocs(n int) { h.objs = append(h.objs, allocN(h.t, h.c, n)...) }

func (h *holder) frees(n int) {
	freeAll(h.c, h.objs[:n])
	h.objs = h.objs[n:]
}

// Who only frees, or only allocates, gives or gets half a sheaf first and whole ones then: 60 objects are
// on a sheaf.
func TestFlow(t *testing.T) {
	first, _ := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		pinned(t, first, func() {
			c := newCache(t, a, "flow", 64, CacheOptions{})
			h := holder{t: t, c: c}
			h.allocs(200)
			flush(t, c)
			defer func() { freeAll(c, h.objs) }()
			for i, step := range []struct {
				do    func(int)
				n     int
				event Event // of the last object
				sheaf int
				barn  int64
			}{
				{h.frees, 60, FreeFastpath, 60, 0},
				{h.frees, 1, BarnPut, 31, 30},
				{h.frees, 29, FreeFastpath, 60, 30},
				{h.frees, 1, BarnPut, 1, 90},
				{h.allocs, 1, AllocFastpath, 0, 90},
				{h.allocs, 1, BarnGet, 29, 60},
				{h.allocs, 29, AllocFastpath, 0, 60},
				{h.allocs, 1, BarnGet, 59, 0},
				{h.frees, 1, FreeFastpath, 60, 0},
				{h.frees, 1, BarnPut, 31, 30},
			} {
				step.do(step.n - 1)
				before := sum(c.Events(step.event))
				step.do(1)
				if got := sum(c.Events(step.event)) - before; got != 1 {
					t.Errorf("step %d: %d times %v; want once", i, got, step.event)
				}
				pc := c.core.lockCPU()
				sheaf, barn := pc.area.Level(), pc.node.inBarn.Load()
				pc.mu.Unlock()
				if sheaf != step.sheaf || barn != step.barn {
					t.Errorf("step %d: %d objects on the sheaf and %d in the barn; want %d and %d", i, sheaf, barn, step.sheaf, step.barn)
				}
			}
		})
	})
}

// Of any capacity half of it moves and then twice as much, up to 64 and 128 objects: with one node and with several.
func TestFlowOfCapacities(t *testing.T) {
	onNodes(t, func(t *testing.T, first, _ int) {
		engines(t, func(t *testing.T, a *Allocator) {
			for _, tc := range []struct{ capacity, half, whole int }{
				{1, 1, 1}, {2, 1, 2}, {3, 1, 2}, {4, 2, 4}, {61, 30, 60}, {200, 64, 128}, {percpu.MaxCap, 64, 128},
			} {
				exactly(t, first, func() {
					c := newCache(t, a, fmt.Sprint("flow", tc.capacity), 64, CacheOptions{SheafCapacity: tc.capacity})
					h := holder{t: t, c: c}
					h.allocs(tc.capacity + tc.half + 1)
					flush(t, c)
					for i, step := range []struct {
						do      func(int)
						n, barn int
					}{
						{h.frees, tc.capacity, 0},
						{h.frees, 1, tc.half},
						{h.frees, tc.half - 1, tc.half},
						{h.frees, 1, tc.half + tc.whole},
						{h.allocs, tc.capacity + 1 - tc.whole, tc.half + tc.whole},
						{h.allocs, 1, tc.whole},
						{h.allocs, tc.half - 1, tc.whole},
						{h.allocs, 1, 0},
					} {
						step.do(step.n)
						if got := c.core.inBarns(); got != int64(step.barn) {
							t.Errorf("sheaves of %d, step %d: %d objects in the barn; want %d", tc.capacity, i, got, step.barn)
						}
					}
					freeAll(c, h.objs)
					checkRest(t, c, nil)
					destroy(t, c)
				})
			}
		})
	})
}

// A barn with room for half a sheaf takes that of a whole one, and the others go to their slabs: each is counted once.
func TestBarnTakesSome(t *testing.T) {
	onNodes(t, func(t *testing.T, first, _ int) {
		engines(t, func(t *testing.T, a *Allocator) {
			exactly(t, first, func() {
				c := newCache(t, a, "some", 64, CacheOptions{SheafCapacity: 4})
				objs := allocN(t, c, 23)
				flush(t, c)
				freeAll(c, objs[:22]) // 4 are on the sheaf, and in the barn 2 and 4 times 4
				events := []Event{BarnPut, BarnPutFail, SheafFlush, FreeSlowpath}
				var before, got []uint64
				for _, e := range events {
					before = append(before, sum(c.Events(e)))
				}
				barn := c.core.inBarns()
				c.Free(objs[22])
				for i, e := range events {
					got = append(got, sum(c.Events(e))-before[i])
				}
				if want := []uint64{1, 1, 1, 1}; !slices.Equal(got, want) || barn != 18 || c.core.inBarns() != 20 {
					t.Errorf("%v are %d more, with %d and then %d objects in the barn; want %d, 18 and 20", events, got, barn, c.core.inBarns(), want)
				}
				checkRest(t, c, nil)
				destroy(t, c)
			})
		})
	})
}

// The first objects of a new slab lie behind the barn for a moment. There is room for them when other CPUs have
// filled it, since it was found empty.
func TestNewSlabBehindFullBarn(t *testing.T) {
	first, second := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		var c *Cache
		var objs, give []unsafe.Pointer
		c = newCache(t, a, "behind", 64, CacheOptions{Ctor: func(unsafe.Pointer) {
			if some := give; some != nil {
				give = nil
				pinned(t, second, func() { freeAll(c, some) })
			}
		}})
		pinned(t, first, func() {
			objs = allocN(t, c, 1000)
			for give, objs = objs[:500], objs[500:]; give != nil; {
				objs = append(objs, c.Alloc())
			}
			if got, want := c.core.nodes[cpu.NodeOf(first)].inBarn.Load(), int64(c.core.barnMax()); got != want {
				t.Errorf("%d objects in the barn; want %d", got, want)
			}
			checkRest(t, c, objs)
			freeAll(c, objs)
		})
		checkRest(t, c, nil)
		destroy(t, c)
	})
}

// What one CPU counts, step by step: 64 objects in a slab, 60 on a sheaf, 30 at a time.
func TestEvents(t *testing.T) {
	first, _ := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		pinned(t, first, func() { countEvents(t, a) })
	})
}

func countEvents(t *testing.T, a *Allocator) {
	c := newCache(t, a, "events", 64, CacheOptions{})
	c.SetMinPartial(1)
	h := holder{t: t, c: c}
	allocs := func(n int) func() { return func() { h.allocs(n) } }
	frees := func(n int) func() { return func() { h.frees(n) } }
	bulk := make([]unsafe.Pointer, 40)
	type counts map[Event]uint64
	before := make(counts)
	for i, step := range []struct {
		do   func()
		want counts
	}{
		{func() {}, counts{}},
		{allocs(1), counts{AllocSlowpath: 1, BarnGetFail: 1, AllocSlab: 1, SheafAlloc: 1, SheafRefill: 33}},
		{allocs(33), counts{AllocFastpath: 33}},
		{allocs(1), counts{AllocSlowpath: 1, BarnGetFail: 1, AllocRefill: 1, SheafRefill: 29, DeactivateBypass: 1}},
		{allocs(29), counts{AllocFastpath: 29}},
		{frees(60), counts{FreeFastpath: 60}},
		{frees(1), counts{FreeSlowpath: 1, BarnPut: 1}},
		{frees(3), counts{FreeFastpath: 3}},
		{allocs(35), counts{AllocFastpath: 34, AllocSlowpath: 1, BarnGet: 1}},
		{func() { c.AllocBulk(bulk) }, counts{AllocFastpath: 39, AllocSlowpath: 1, BarnGetFail: 2, AllocSlab: 1, SheafRefill: 59}},
		{frees(5), counts{FreeFastpath: 5}},
		{func() { c.FreeBulk(bulk) }, counts{FreeFastpath: 6, FreeSlowpath: 34, BarnPut: 2}},
		{func() { flush(t, c) }, counts{SheafFlush: 94, FreeAddPartial: 1, CPUSlabFlush: 1, DeactivateEmpty: 1, FreeSlab: 1}},
		{allocs(1), counts{AllocSlowpath: 1, BarnGetFail: 1, AllocFromPartial: 1, SheafRefill: 29}},
		{func() { flush(t, c) }, counts{SheafFlush: 29, CPUSlabFlush: 1, DeactivateToTail: 1}},
	} {
		step.do()
		for e := range numEvents {
			per := c.Events(e)
			n := sum(per)
			if got := n - before[e]; got != step.want[e] {
				t.Errorf("step %d: %d more times %v; want %d", i, got, e, step.want[e])
			}
			before[e] = n
			if at := slices.IndexFunc(per, func(n uint64) bool { return n > 0 }); at >= 0 && n != per[at] {
				t.Errorf("step %d: %v on several CPUs: %d", i, e, per)
			}
		}
	}
	new(tally).check(t, c, 140, 109)
	for e := range numEvents {
		if err := c.ClearEvents(t.Context(), e); err != nil || sum(c.Events(e)) != 0 {
			t.Errorf("%v cleared: %d, %v; want 0", e, sum(c.Events(e)), err)
		}
	}
	freeAll(c, h.objs)
	if got := sum(c.Events(FreeFastpath)) + sum(c.Events(FreeSlowpath)); got != uint64(len(h.objs)) {
		t.Errorf("%d objects taken back since the clear; want %d", got, len(h.objs))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Hotplug().Lock()
	if err := elsewhere(func() error { return c.ClearEvents(ctx, FreeFastpath) }); !errors.Is(err, context.Canceled) {
		t.Errorf("ClearEvents with a context that has ended: %v", err)
	}
	a.Hotplug().Unlock()
	destroy(t, c)
	for e := range numEvents {
		if n := sum(c.Events(e)); n != 0 {
			t.Errorf("%d times %v in a destroyed cache", n, e)
		}
	}
}

// The count of pops begins anew after 2^48, and what is not booked yet never shows as a huge number.
func TestEventsWrap(t *testing.T) {
	pc := newCache(t, newAllocator(t, Options{Engine: Lock}), "wrap", 64, CacheOptions{}).core.cpus[0]
	pc.mu.Lock()
	defer pc.mu.Unlock()
	for _, tc := range []struct{ events, want uint64 }{
		{percpu.CountMask - nearly, percpu.CountMask - nearly},
		{percpu.CountMask, 0},
		{percpu.CountMask + 1, 0},
		{percpu.CountMask + 8, 7},
		{^uint64(0), 0},
	} {
		pc.events[AllocFastpath].add(int(tc.events - pc.events[AllocFastpath].load()))
		pc.open.Store(true)
		if got := pc.happened(AllocFastpath); got != tc.want {
			t.Errorf("happened with %#x = %#x; want %#x", tc.events, got, tc.want)
		}
		pc.open.Store(false)
	}
}

// With capacity 0 nothing stays on sheaves or in the barn, whatever is called.
func TestNoSheaves(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "none", 64, CacheOptions{})
		objs := allocN(t, c, 1000)
		freeAll(c, objs[500:])
		objs = objs[:500]
		empty := func(what string) {
			t.Helper()
			if s := c.Stats(); s.Cached != 0 || s.Objects != len(objs) || s.SheafCapacity != 0 {
				t.Errorf("%s: %d objects cached, %d live, capacity %d; want 0, %d, 0", what, s.Cached, s.Objects, s.SheafCapacity, len(objs))
			}
			checkRest(t, c, objs)
		}
		if err := c.SetSheafCapacity(0); err != nil {
			t.Fatal(err)
		}
		empty("set")
		fast := sum(c.Events(AllocFastpath)) + sum(c.Events(FreeFastpath))
		objs = append(objs, allocN(t, c, 100)...)
		empty("Alloc")
		freeAll(c, objs[550:])
		objs = objs[:550]
		empty("Free")
		bulk := make([]unsafe.Pointer, 200)
		c.AllocBulk(bulk)
		objs = append(objs, bulk...)
		empty("AllocBulk")
		c.FreeBulk(bulk)
		objs = objs[:550]
		empty("FreeBulk")
		if n := sum(c.Events(AllocFastpath)) + sum(c.Events(FreeFastpath)); n != fast {
			t.Errorf("%d calls found a sheaf", n-fast)
		}
		if err := c.SetSheafCapacity(60); err != nil {
			t.Fatal(err)
		}
		freeAll(c, objs[:50])
		objs = objs[50:]
		if s := c.Stats(); s.Cached == 0 || s.SheafCapacity != 60 {
			t.Errorf("capacity %d again: %d objects cached after 50 frees", s.SheafCapacity, s.Cached)
		}
		checkRest(t, c, objs)
		freeAll(c, objs)
		destroy(t, c)
	})
}

// A sheaf takes as many objects as its capacity says, also one that is opened later.
func TestCapacities(t *testing.T) {
	first, second := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		for _, most := range []int{1, 2, 3, 63, percpu.MaxCap} {
			c := newCache(t, a, fmt.Sprint("cap", most), 64, CacheOptions{SheafCapacity: most})
			if got := c.SheafCapacity(); got != uint(most) {
				t.Errorf("a new cache has capacity %d; want %d", got, most)
			}
			objs := allocN(t, c, 2*most)
			for _, want := range []int{most, (most + 1) / 2, most} {
				if err := c.SetSheafCapacity(uint(want)); err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{first, second} {
					exact := uint64(0)
					pinned(t, n, func() {
						before := sum(c.Events(FreeFastpath))
						freeAll(c, objs[:want])
						objs = append(objs[want:], objs[:want]...)
						exact = sum(c.Events(FreeFastpath)) - before
						flush(t, c)
						for i := range want {
							objs[len(objs)-1-i] = c.Alloc()
						}
					})
					if exact+1 < uint64(want) || exact > uint64(want) { // the first opens the sheaf
						t.Errorf("capacity %d of %d: %d objects found room on CPU %d", want, most, exact, n)
					}
					flush(t, c)
				}
			}
			freeAll(c, objs)
			checkRest(t, c, nil)
			destroy(t, c)
		}
		for _, bad := range []int{-1, percpu.MaxCap + 1} {
			if _, err := a.NewCache("bad", 64, CacheOptions{SheafCapacity: bad}); !errors.Is(err, ErrInvalid) {
				t.Errorf("NewCache with sheaves of %d objects: %v; want ErrInvalid", bad, err)
			}
		}
	})
}

// Objects are booked where they went, which with sequences is the CPU that the
// thread is on, whosever lock it holds.
func TestBooks(t *testing.T) {
	first, second := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "books", 64, CacheOptions{})
		k := c.core
		objs := make([]unsafe.Pointer, 20)
		for _, n := range []int{first, second} { // both sheaves are open, both threads registered
			pinned(t, n, func() { c.Free(c.Alloc()) })
		}
		flush(t, c)
		want := k.cpus[first]
		pinned(t, second, func() {
			c.Free(c.Alloc())
			c.AllocBulk(objs)
			flush(t, c)
			if k.seq {
				want = k.cpus[second]
			}
			pc := k.cpus[first]
			pc.mu.Lock()
			defer pc.mu.Unlock()
			booked := func() uint64 { return want.moved.load() + want.otherMoved.Load() }
			before, moved := want.area.Level(), booked()
			kept := k.pushBulk(pc, unsafe.Slice((*uintptr)(unsafe.Pointer(&objs[0])), len(objs)))
			if got, n := want.area.Level()-before, booked()-moved; kept != len(objs) || got != kept || n != uint64(kept) {
				t.Errorf("pushBulk kept %d; on CPU %d there are %d more, %d are booked; want %d", kept, slices.Index(k.cpus, want), got, n, len(objs))
			}
			var buf [20]uintptr
			if got := k.popBulk(pc, buf[:]); got != len(objs) || booked() != moved {
				t.Errorf("popBulk returned %d, %d are booked; want %d, %d", got, booked(), len(objs), moved)
			}
		})
		freeAll(c, objs)
		destroy(t, c)
	})
}

// A clear waits for what was moved and is not booked yet.
func TestClearWaits(t *testing.T) {
	c := newCache(t, newAllocator(t, Options{Engine: Lock}), "clear", 64, CacheOptions{})
	k := c.core
	c.Free(c.Alloc())
	flush(t, c)
	pc := k.cpus[slices.IndexFunc(k.cpus, func(pc *cpuState) bool { return pc != nil && pc.open.Load() })]
	pc.mu.Lock()
	pc.area.PushBulk([]uintptr{8, 16, 24}) // no objects: nobody asks for one here
	done := make(chan error)
	go func() { done <- c.ClearEvents(context.Background(), FreeFastpath) }()
	select {
	case err := <-done:
		t.Errorf("ClearEvents ended during a move: %v", err)
		done = nil
	case <-time.After(20 * time.Millisecond):
	}
	pc.moved.add(3)
	pc.mu.Unlock()
	if done != nil {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := sum(c.Events(FreeFastpath)); n != 0 {
		t.Errorf("%d after the clear; want 0", n)
	}
	pc.mu.Lock()
	var buf [3]uintptr
	if n := k.popBulk(pc, buf[:]); n != 3 {
		t.Errorf("popBulk returned %d; want 3", n)
	}
	pc.mu.Unlock()
	destroy(t, c)
}

// However many objects a bulk call wants from slabs, it lets others at the node in between.
func TestAllocBulkInSteps(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "steps", 64, CacheOptions{})
		c.SetMinPartial(1 << 20)
		objs := make([]unsafe.Pointer, 20*maxTake)
		for range 2 {
			before := total(c.Events(BarnGetFail))
			if !c.AllocBulk(objs) {
				t.Fatal("AllocBulk failed")
			}
			if steps := total(c.Events(BarnGetFail)) - before; steps < 20 { // each finds the barn empty first
				t.Errorf("%d objects in %d steps; want 20 at least", len(objs), steps)
			}
			checkRest(t, c, objs)
			c.FreeBulk(objs)
			flush(t, c)
		}
		destroy(t, c)
	})
}
