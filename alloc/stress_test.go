package alloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"slabfs/internal/cpu"
)

// Words of an object under stress. The first word of a live one is liveMark
// with its owner's number, that of a free one is freeMark; the last word is the
// complement of what a live one's first word was.
const (
	markMask = 0xffff << 48
	liveMark = 0xa11e << 48
	freeMark = 0xf4ee << 48
)

// A ledger marks objects and counts them.
type ledger struct {
	tb              testing.TB
	tickets         atomic.Uint64
	allocs, frees   atomic.Int64
	refused         atomic.Int64
	handedOutTwice  atomic.Int64
	freedByTwo      atomic.Int64
	overwrittenTail atomic.Int64
}

func words(obj unsafe.Pointer, size int) (first, last *uint64) {
	return (*uint64)(obj), (*uint64)(unsafe.Add(obj, (size-8)&^7))
}

// got marks an object that was handed out.
func (l *ledger) got(obj unsafe.Pointer, size int) uint64 {
	first, last := words(obj, size)
	ticket := liveMark | l.tickets.Add(1)
	if old := atomic.SwapUint64(first, ticket); old&markMask == liveMark {
		l.handedOutTwice.Add(1)
	}
	if last != first {
		atomic.StoreUint64(last, ^ticket)
	}
	l.allocs.Add(1)
	return ticket
}

// gives marks an object that is about to be freed.
func (l *ledger) gives(obj unsafe.Pointer, size int, ticket uint64) {
	first, last := words(obj, size)
	if last != first && atomic.LoadUint64(last) != ^ticket {
		l.overwrittenTail.Add(1)
	}
	if !atomic.CompareAndSwapUint64(first, ticket, freeMark) {
		l.freedByTwo.Add(1)
	}
	l.frees.Add(1)
}

// check fails unless every object was handed out to one owner at a time and came back.
func (l *ledger) check() {
	l.tb.Helper()
	if l.allocs.Load() != l.frees.Load() {
		l.tb.Errorf("%d objects handed out, %d taken back", l.allocs.Load(), l.frees.Load())
	}
	if a, b, c := l.handedOutTwice.Load(), l.freedByTwo.Load(), l.overwrittenTail.Load(); a+b+c > 0 {
		l.tb.Errorf("%d objects handed out twice, %d freed by two, %d overwritten", a, b, c)
	}
}

// A held is a live object and what its first word has to be.
type held struct {
	obj    unsafe.Pointer
	ticket uint64
}

// exchange is where goroutines leave objects for others to free.
type exchange [256]atomic.Pointer[held]

// drain frees what nobody came for.
func (x *exchange) drain(c *Cache, l *ledger) {
	for i := range x {
		if h := x[i].Swap(nil); h != nil {
			l.gives(h.obj, c.ObjectSize(), h.ticket)
			c.Free(h.obj)
		}
	}
}

// workTogether is n operations of each of four goroutines on a cache, which free each
// other's objects too. In the end all are free, and counted.
func workTogether(tb testing.TB, c *Cache, stream uint64, n int) {
	tb.Helper()
	l := &ledger{tb: tb}
	var x exchange
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() { work(c, l, &x, rand.New(rand.NewPCG(uint64(g), stream)), n) })
	}
	wg.Wait()
	x.drain(c, l)
	l.check()
}

// work is n operations of one goroutine on a cache.
func work(c *Cache, l *ledger, x *exchange, r *rand.Rand, n int) {
	size := c.ObjectSize()
	var mine []held
	free := func(h held) {
		l.gives(h.obj, size, h.ticket)
		c.Free(h.obj)
	}
	for n > 0 {
		switch burst := 1 + r.IntN(200); r.IntN(8) {
		case 0, 1: // deep
			for range burst {
				if obj := c.Alloc(); obj != nil {
					mine = append(mine, held{obj, l.got(obj, size)})
				} else {
					l.refused.Add(1)
				}
			}
			n -= burst
		case 2, 3:
			for range min(burst, len(mine)) {
				i := r.IntN(len(mine))
				free(mine[i])
				mine[i] = mine[len(mine)-1]
				mine = mine[:len(mine)-1]
			}
			n -= burst
		case 4: // shallow
			for range burst {
				if obj := c.Alloc(); obj != nil {
					free(held{obj, l.got(obj, size)})
				}
			}
			n -= 2 * burst
		case 5: // one goroutine allocates, another frees
			for range min(burst, len(mine)) {
				h := mine[len(mine)-1]
				mine = mine[:len(mine)-1]
				if old := x[r.IntN(len(x))].Swap(&h); old != nil {
					free(*old)
				}
			}
			n -= burst
		case 6:
			objs := make([]unsafe.Pointer, burst)
			if c.AllocBulk(objs) {
				for _, obj := range objs {
					mine = append(mine, held{obj, l.got(obj, size)})
				}
			}
			n -= burst
		case 7:
			burst = min(burst, len(mine))
			objs := make([]unsafe.Pointer, burst)
			for i, h := range mine[len(mine)-burst:] {
				l.gives(h.obj, size, h.ticket)
				objs[i] = h.obj
			}
			mine = mine[:len(mine)-burst]
			c.FreeBulk(objs)
			n -= burst + 1
		}
	}
	for _, h := range mine {
		free(h)
	}
}

// disturb runs each of these again and again until stop is closed, each in its own goroutine.
func disturb(stop <-chan struct{}, actors ...func(r *rand.Rand)) (wait func()) {
	var wg sync.WaitGroup
	for i, act := range actors {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			for {
				select {
				case <-stop:
					return
				default:
					act(r)
					runtime.Gosched()
				}
			}
		})
	}
	return wg.Wait
}

// No object is lost or doubled, whatever happens to the cache meanwhile.
func TestConservation(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int
		// rounds let the short-lived goroutines of one round meet the sheaves that the last one left.
		rounds int
		limit  int64
	}{
		{"64", 64, 2, 0},
		{"8", 8, 1, 0},
		{"700", 700, 1, 0},
		{"4096", 4096, 1, 0},
		{"limit", 192, 2, 128 << 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := random(t)
			a := newAllocator(t, Options{MemoryLimit: tc.limit})
			c := newCache(t, a, "stress", tc.size, CacheOptions{})
			l := &ledger{tb: t}
			var cleared tally
			var x exchange
			goroutines := 4*runtime.GOMAXPROCS(0) + 3
			stop := make(chan struct{})
			wait := disturb(stop,
				func(r *rand.Rand) {
					if err := c.SetCPUPartial(r.UintN(200)); err != nil {
						t.Error(err)
					}
				},
				func(*rand.Rand) { c.Shrink() },
				func(r *rand.Rand) { c.SetMinPartial(r.Uint64N(10)) },
				plug(t, a),
				func(*rand.Rand) { runtime.GC() },
				func(*rand.Rand) { c.Stats(); a.CachedBytes(); a.MetadataBytes() },
				func(r *rand.Rand) { churn(t, a, tc.size, r) },
				retune(t, c, &cleared),
				clearSome(t, c, &cleared),
				func(r *rand.Rand) {
					if b := a.Bytes(r.IntN(20_000)); b != nil {
						a.FreeBytes(b)
					}
				},
			)
			within("conservation", func() {
				for range tc.rounds {
					var wg sync.WaitGroup
					for range goroutines {
						seed := r.Uint64()
						wg.Go(func() {
							work(c, l, &x, rand.New(rand.NewPCG(seed, 1)), scaled(*opsFlag)/(5*tc.rounds*goroutines))
						})
					}
					wg.Wait()
				}
				close(stop)
				wait()
			})
			x.drain(c, l)
			l.check()
			checkRest(t, c, nil)
			plugAll(t, a)
			if n := l.refused.Load(); (n > 0) != (tc.limit > 0) {
				t.Errorf("nil %d times at a limit of %d bytes", n, tc.limit)
			}
			checkRest(t, c, nil)
			if tc.limit == 0 {
				cleared.check(t, c, l.allocs.Load(), l.frees.Load())
			} else { // an AllocBulk that failed has given back what it had
				cleared.check(t, c, cleared.allocs(c), cleared.allocs(c))
			}
			destroy(t, c)
			if n := a.Damage(); n != 0 {
				t.Errorf("%d objects could not go back to their slabs", n)
			}
		})
	}
}

// churn makes a cache, uses it and destroys it.
func churn(t *testing.T, a *Allocator, size int, r *rand.Rand) {
	name := fmt.Sprint("churn", r.IntN(3))
	c, err := a.NewCache(name, size, CacheOptions{})
	if errors.Is(err, ErrExist) {
		return
	} else if err != nil {
		t.Error(err)
		return
	}
	l := &ledger{tb: t}
	var x exchange
	work(c, l, &x, r, 300)
	x.drain(c, l)
	if a.MemoryLimit() == 0 {
		new(tally).check(t, c, l.allocs.Load(), l.frees.Load())
	}
	var mine []held
	for range r.IntN(100) {
		if obj := c.Alloc(); obj != nil {
			mine = append(mine, held{obj, l.got(obj, size)})
		}
	}
	if err := c.Destroy(); len(mine) > 0 && !errors.Is(err, ErrBusy) {
		t.Errorf("destroy with %d live objects: %v", len(mine), err)
	} else if len(mine) == 0 {
		return
	}
	for _, h := range mine {
		l.gives(h.obj, size, h.ticket)
		c.Free(h.obj)
	}
	destroy(t, c)
	l.check()
}

// Objects that were freed on one CPU wait there, until a flush; then they are
// handed out on another.
func TestFreedElsewhere(t *testing.T) {
	first, second := twoCPUs(t)
	a := newAllocator(t, Options{})
	c := newCache(t, a, "elsewhere", 64, CacheOptions{})
	objs := make([]unsafe.Pointer, 40) // fit a sheaf
	pinned(t, first, func() {
		for i := range objs {
			objs[i] = c.Alloc()
		}
	})
	exact := false
	pinned(t, second, func() {
		exact = cpu.Current(1<<16) == second
		freeAll(c, objs)
	})
	before := c.Stats()
	if got := c.core.cpus[second].area.Level(); exact && got != len(objs) {
		t.Errorf("CPU %d holds %d objects; want the %d that were freed there", second, got, len(objs))
	}
	flush(t, c)
	checkRest(t, c, nil)
	if s := c.Stats(); s.Cached != 0 {
		t.Errorf("%d objects on sheaves after a flush", s.Cached)
	}
	all := make([]unsafe.Pointer, before.TotalObjects)
	pinned(t, first, func() {
		for i := range all {
			all[i] = c.Alloc()
		}
	})
	if got := c.Stats().Slabs; got != before.Slabs {
		t.Errorf("%d slabs for the objects that %d have: some were not handed out again", got, before.Slabs)
	}
	for _, obj := range objs {
		if !slices.Contains(all, obj) {
			t.Errorf("object %p is not handed out again", obj)
		}
	}
	checkRest(t, c, all)
	freeAll(c, all)
	destroy(t, c)
}

// BenchmarkParallel is pairs on all CPUs, each alone.
func BenchmarkParallel(b *testing.B) {
	a := newAllocator(b, Options{})
	c := newCache(b, a, "parallel", 64, CacheOptions{})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Free(c.Alloc())
		}
	})
}
