package alloc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
)

// plug returns an actor that takes CPUs offline and brings them back.
func plug(t *testing.T, a *Allocator) func(*rand.Rand) {
	cpus := slices.Collect(a.Hotplug().Possible().All())
	return func(r *rand.Rand) {
		if err := a.SetOnline(cpus[r.IntN(len(cpus))], r.IntN(2) == 0); err != nil && !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		time.Sleep(20 * time.Microsecond) // a writer that comes back at once lets no reader in
	}
}

// plugAll brings all CPUs online.
func plugAll(tb testing.TB, a *Allocator) {
	tb.Helper()
	for n := range a.Hotplug().Possible().All() {
		setOnline(tb, a, n, true)
	}
}

func setOnline(tb testing.TB, a *Allocator, n int, online bool) {
	tb.Helper()
	if err := a.SetOnline(n, online); err != nil {
		tb.Fatal(err)
	}
	if got := a.Hotplug().Online().Has(n); got != online {
		tb.Fatalf("CPU %d online: %v after SetOnline(%v)", n, got, online)
	}
}

// use allocates and frees as many objects as fill sheaf and barn and more, in all
// ways, with a walk over all slabs in between.
func use(t *testing.T, c *Cache) {
	t.Helper()
	objs := allocN(t, c, 1000)
	bulk := make([]unsafe.Pointer, 1000)
	if !c.AllocBulk(bulk) {
		t.Error("AllocBulk failed")
	}
	checkRest(t, c, slices.Concat(objs, bulk))
	freeAll(c, objs)
	checkRest(t, c, bulk)
	c.FreeBulk(bulk)
	checkRest(t, c, nil)
}

// A CPU that goes offline holds nothing, and nothing comes to it until it is back,
// whatever is done to its caches. Threads that run there are served.
func TestOffline(t *testing.T) {
	n, other := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		exact := false
		c := newCache(t, a, "used", 64, CacheOptions{})
		unused := newCache(t, a, "unused", 192, CacheOptions{})
		pinned(t, n, func() {
			exact = cpu.Current(1<<16) == n
			use(t, c)
		})
		pinned(t, other, func() { use(t, c) })
		pc := c.core.cpus[n]
		if exact && (pc.area.Level() == 0 || pc.slabs.n == 0 || !pc.open.Load()) {
			t.Errorf("before: %d objects, %d slabs; want some of each", pc.area.Level(), pc.slabs.n)
		}
		before := c.Stats()
		held := pc.area.Level()
		allocs := sum(c.Events(AllocFastpath)) + sum(c.Events(AllocSlowpath))

		setOnline(t, a, n, false)
		setOnline(t, a, n, false)
		checkRest(t, c, nil)
		if got := c.Stats().Cached; got != before.Cached-held {
			t.Errorf("%d objects are cached; want %d without the %d of CPU %d", got, before.Cached-held, held, n)
		}
		for _, s := range c.Stats().CPUs {
			if s.CPU == n {
				t.Errorf("CPU %d keeps slabs: %+v", n, s)
			}
		}
		late := newCache(t, a, "late", 64, CacheOptions{})
		all := []*Cache{c, unused, late}
		for what, f := range map[string]func(c *Cache) error{
			"use":              func(c *Cache) error { use(t, c); return nil },
			"SetCPUPartial":    func(c *Cache) error { return c.SetCPUPartial(100) },
			"SetSheafCapacity": func(c *Cache) error { return errors.Join(c.SetSheafCapacity(0), c.SetSheafCapacity(20)) },
			"Shrink":           func(c *Cache) error { c.Shrink(); return nil },
			"reclaim":          func(*Cache) error { a.emptyCores(nil, true); return nil },
			"Destroy of a busy one": func(c *Cache) error {
				obj := c.Alloc()
				defer c.Free(obj)
				if err := c.Destroy(); !errors.Is(err, ErrBusy) {
					return errors.New("it succeeded")
				}
				return nil
			},
		} {
			for _, on := range []int{n, other} {
				pinned(t, on, func() {
					for _, c := range all {
						if err := f(c); err != nil {
							t.Errorf("%s of %s on CPU %d: %v", what, c.Name(), on, err)
						}
						c.Free(c.Alloc())
						checkRest(t, c, nil)
					}
				})
			}
		}
		for _, c := range all[1:] {
			if c.core.cpus[n].open.Load() {
				t.Errorf("%s: the sheaf of CPU %d was opened while it was offline", c.Name(), n)
			}
		}

		setOnline(t, a, n, true)
		for _, c := range all {
			pinned(t, n, func() { freeAll(c, allocN(t, c, 15)) })
			if exact && c.core.cpus[n].area.Level() == 0 {
				t.Errorf("%s: the sheaf of CPU %d, back online, holds nothing after 15 frees", c.Name(), n)
			}
			checkRest(t, c, nil)
		}
		if got := sum(c.Events(AllocFastpath)) + sum(c.Events(AllocSlowpath)); got <= allocs {
			t.Errorf("%d objects counted that were handed out; before it was %d", got, allocs)
		}
		for _, c := range all {
			if n := new(tally); n.allocs(c) != n.frees(c) {
				t.Errorf("%s: %d objects counted that were handed out, %d that were taken back", c.Name(), n.allocs(c), n.frees(c))
			}
			destroy(t, c)
		}
	})
}

// What a CPU counted is not seen while it is offline, and there again when it comes back.
func TestEventsOffline(t *testing.T) {
	n, other := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "events", 64, CacheOptions{})
		count := func(what string, want uint64) {
			t.Helper()
			allocs, frees := sum(c.Events(AllocFastpath))+sum(c.Events(AllocSlowpath)), sum(c.Events(FreeFastpath))+sum(c.Events(FreeSlowpath))
			if allocs != want || frees != want {
				t.Errorf("%s: %d objects counted that were handed out, %d that were taken back; want %d of each", what, allocs, frees, want)
			}
		}
		exact := false
		pinned(t, n, func() {
			exact = cpu.Current(1<<16) == n
			freeAll(c, allocN(t, c, 100))
		})
		if !exact && a.Engine() == Lock {
			t.Skip("the CPU at hand cannot be read here")
		}
		pinned(t, other, func() { freeAll(c, allocN(t, c, 1000)) })
		count("both", 1100)
		setOnline(t, a, n, false)
		count("offline", 1000)
		pinned(t, n, func() { freeAll(c, allocN(t, c, 10)) })
		count("used there", 1000)
		for e := range numEvents {
			if err := c.ClearEvents(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
		count("cleared", 0)
		setOnline(t, a, n, true)
		count("back", 110)
		pinned(t, n, func() { freeAll(c, allocN(t, c, 1)) })
		count("used again", 111)
		destroy(t, c)
	})
}

// A CPU is gone for good with what it holds: its threads run elsewhere now. To take
// it offline brings all of that back.
func TestUnplugged(t *testing.T) {
	n, other := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "unplugged", 64, CacheOptions{})
		objs := make([]unsafe.Pointer, 1000)
		pinned(t, n, func() {
			for i := range objs {
				objs[i] = c.Alloc()
			}
			freeAll(c, objs)
		})
		slabs := c.Stats().Slabs
		setOnline(t, a, n, false)
		checkRest(t, c, nil)
		pinned(t, other, func() {
			again := allocN(t, c, c.Stats().TotalObjects)
			kept := 0
			if others := len(c.core.nodes) - 1; others > 0 { // nobody of another node takes these while there is memory
				kept = others*int(c.MinPartial()) + 1 // and of the last new slab something stays on the sheaf
			}
			if got := c.Stats().Slabs; got > slabs+kept {
				t.Errorf("%d slabs for the objects that fit %d: some were lost", got, slabs)
			}
			freeAll(c, again)
		})
		checkRest(t, c, nil)
		destroy(t, c)
	})
}

func TestSetOnlineRefuses(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "refuses", 64, CacheOptions{})
	h := a.Hotplug()
	possible := slices.Collect(h.Possible().All())
	for _, n := range []int{-1, h.Possible().Limit(), math.MaxInt} {
		for _, online := range []bool{false, true} {
			if err := a.SetOnline(n, online); !errors.Is(err, ErrNotExist) || !strings.Contains(err.Error(), h.Possible().String()) {
				t.Errorf("SetOnline(%d, %v): %v; want ErrNotExist", n, online, err)
			}
		}
	}
	last := possible[len(possible)/2]
	for _, n := range possible {
		if n != last {
			setOnline(t, a, n, false)
		}
	}
	for range 2 {
		if err := a.SetOnline(last, false); !errors.Is(err, ErrBusy) || !h.Online().Has(last) {
			t.Errorf("SetOnline of the last CPU: %v, online are %v; want ErrBusy", err, h.Online())
		}
		setOnline(t, a, last, true)
		use(t, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h.RLock()
	time.AfterFunc(time.Millisecond, cancel)
	within("SetOnline", func() {
		if err := elsewhere(func() error { return a.SetOnlineContext(ctx, possible[0], last != possible[0]) }); !errors.Is(err, context.Canceled) {
			t.Errorf("SetOnline while the hotplug lock is read: %v; want context.Canceled", err)
		}
	})
	h.RUnlock()
	if got, want := h.Online().String(), cpu.MaskOf(last).String(); got != want {
		t.Errorf("online are %s; want %s", got, want)
	}
	plugAll(t, a)
	use(t, c)
	destroy(t, c)
	checkUnlocked(a)
}

// A thread is moved to the offline CPU and away while it allocates, and the CPU comes and goes under it.
func TestOfflineMoves(t *testing.T) {
	n, other := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "moves", 64, CacheOptions{})
		l := &ledger{tb: t}
		var x exchange
		r := random(t)
		stop := make(chan struct{})
		wait := disturb(stop, func(r *rand.Rand) { plug(t, a)(r); time.Sleep(100 * time.Microsecond) })
		within("moves", func() {
			var wg sync.WaitGroup
			for range 3 {
				seed := r.Uint64()
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, 1))
					for i := range 50 {
						pinned(t, []int{n, other}[(i+int(seed&1))%2], func() { work(c, l, &x, r, 200) })
					}
				})
			}
			wg.Wait()
			close(stop)
			wait()
		})
		x.drain(c, l)
		l.check()
		checkRest(t, c, nil)
		new(tally).check(t, c, l.allocs.Load(), l.frees.Load())
		destroy(t, c)
	})
}

// On one processor nobody waits for ever for another goroutine.
func TestOfflineOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "one", 64, CacheOptions{})
		l := &ledger{tb: t}
		var x exchange
		stop := make(chan struct{})
		wait := disturb(stop, plug(t, a), func(*rand.Rand) { flush(t, c) }, func(r *rand.Rand) { churn(t, a, 64, r) })
		within("hotplug on one processor", func() {
			var wg sync.WaitGroup
			for g := range 3 {
				wg.Go(func() { work(c, l, &x, rand.New(rand.NewPCG(uint64(g), 3)), scaled(20_000)) })
			}
			wg.Wait()
			close(stop)
			wait()
		})
		x.drain(c, l)
		l.check()
		checkRest(t, c, nil)
		plugAll(t, a)
		new(tally).check(t, c, l.allocs.Load(), l.frees.Load())
		destroy(t, c)
	})
}

// SetOnline may be called where no lock is held: by a tree, a constructor, and in a store of a
// cache whose destroy waits for that store.
func TestSetOnlineInCallbacks(t *testing.T) {
	n, _ := twoCPUs(t)
	a := newAllocator(t, Options{})
	var calls atomic.Int32
	toggle := func() {
		calls.Add(1)
		for _, online := range []bool{false, true} {
			if err := a.SetOnline(n, online); err != nil {
				t.Error(err)
			}
		}
	}
	stores := &attrTree{active: make(map[*Cache]*lockdep.RWSem)}
	defer a.Attach(stores)()
	tree := newTree(t, "A")
	tree.publish = func(*Cache) error { toggle(); return nil }
	tree.unlink = func(*Cache) { toggle() }
	defer tree.attach(a)()
	within("SetOnline in callbacks", func() {
		constructed := false
		c := newCache(t, a, "callbacks", 64, CacheOptions{Ctor: func(unsafe.Pointer) {
			if !constructed {
				constructed = true
				toggle()
			}
		}})
		c.Free(c.Alloc())
		calls.Store(0)
		began, ended := make(chan bool), make(chan bool)
		go func() {
			defer close(ended)
			stores.store(c, func() {
				close(began)
				soon("the destroy begins", c.dead.Load)
				toggle()
			})
		}()
		<-began
		destroy(t, c)
		<-ended
	})
	if got := calls.Load(); got != 2 {
		t.Errorf("%d calls in the store and the unlink; want 2", got)
	}
	plugAll(t, a)
}

// BenchmarkOffline is pairs on a CPU that is online, and on one that is not.
func BenchmarkOffline(b *testing.B) {
	n, _ := twoCPUs(b)
	for _, e := range []Engine{Auto, Lock} {
		for _, online := range []bool{true, false} {
			b.Run(fmt.Sprintf("engine=%v/online=%v", e, online), func(b *testing.B) {
				a := newAllocator(b, Options{Engine: e})
				c := newCache(b, a, "offline", 64, CacheOptions{})
				setOnline(b, a, n, online)
				pinned(b, n, func() {
					for b.Loop() {
						c.Free(c.Alloc())
					}
				})
				destroy(b, c)
			})
		}
	}
}
