package alloc

import (
	"context"
	"fmt"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/pages"
)

// halves returns an eight-object cache at the limit with two slabs: as many
// objects of both, slab by slab.
func halves(t *testing.T, a *Allocator) (c *Cache, slabs [2][]unsafe.Pointer) {
	t.Helper()
	c = newCache(t, a, "eight", 512, CacheOptions{})
	a.SetMemoryLimit(a.MemoryUsed() + 2*int64(slabBytes(c.core.order)))
	objs := fill(c)
	if len(objs) != 2*c.core.objects {
		t.Fatalf("%d objects at the limit; want %d", len(objs), 2*c.core.objects)
	}
	first := c.core.slabOf(objs[0])
	for _, obj := range objs {
		i := 0
		if c.core.slabOf(obj) != first {
			i = 1
		}
		slabs[i] = append(slabs[i], obj)
	}
	return c, slabs
}

// A slab whose objects are all free is found at once, whatever was found just
// before and wherever its objects lie: nil never means that somebody should
// have waited.
func TestNilMeansNoEmptySlab(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		for _, minPartial := range []uint64{0, 5} {
			for _, capacity := range []uint{0, 3, 28} {
				name := fmt.Sprintf("min_partial=%d, sheaf_capacity=%d", minPartial, capacity)
				c, slabs := halves(t, a)
				c.SetMinPartial(minPartial)
				if err := c.SetSheafCapacity(capacity); err != nil {
					t.Fatal(err)
				}
				other := newCache(t, a, "other", 512, CacheOptions{})
				half := c.core.objects / 2
				freeAll(c, slabs[0][:half])
				freeAll(c, slabs[1][:half]) // as many objects as a slab has, but none is empty
				for range 3 {
					if other.Alloc() != nil {
						t.Fatalf("%s: an object, though no slab is empty", name)
					}
				}
				again := allocN(t, c, 2*half) // and none is lost
				for _, obj := range again {
					i := 0
					if c.core.slabOf(obj) != c.core.slabOf(slabs[0][half]) {
						i = 1
					}
					slabs[i] = append(slabs[i], obj)
				}
				freeAll(c, slabs[0][half:][:half])
				freeAll(c, slabs[1][half:][:half])
				if other.Alloc() != nil {
					t.Fatalf("%s: an object, though no slab is empty", name)
				}
				freeAll(c, slabs[0][2*half:])
				obj := other.Alloc()
				if obj == nil {
					t.Errorf("%s: nil, right after the last object of a slab was freed", name)
				} else {
					other.Free(obj)
				}
				freeAll(c, slabs[1][2*half:])
				checkRest(t, c, nil)
				checkRest(t, other, nil)
				a.SetMemoryLimit(0)
				destroy(t, c)
				destroy(t, other)
			}
		}
	})
}

// One goroutine allocates and frees at the limit, in several caches: whenever
// it gets nil, each slab has a live object.
func TestNilMeansNoEmptySlabAtRandom(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		r := random(t)
		caches := []*Cache{
			newCache(t, a, "a", 64, CacheOptions{}), newCache(t, a, "b", 512, CacheOptions{}),
			newCache(t, a, "c", 3000, CacheOptions{}), newCache(t, a, "d", 512, CacheOptions{SheafCapacity: 2}),
		}
		live := make([][]unsafe.Pointer, len(caches))
		a.SetMemoryLimit(256 << 10)
		refused := 0
		for range scaled(20_000) {
			i := r.IntN(len(caches))
			c := caches[i]
			if r.IntN(100) < 55 {
				if obj := c.Alloc(); obj != nil {
					live[i] = append(live[i], obj)
					continue
				}
				refused++
				for j, d := range caches {
					slabs := make(map[pages.Page]bool)
					for _, obj := range live[j] {
						slabs[d.core.slabOf(obj)] = true
					}
					if got := d.Stats().Slabs; got != len(slabs) && int64(slabBytes(c.core.order)) <= int64(slabBytes(d.core.order)) {
						t.Fatalf("nil from %q, though %d of %d slabs of %q have no live object", c.Name(), got-len(slabs), got, d.Name())
					}
				}
				for range r.IntN(40) {
					j := r.IntN(len(caches))
					if n := len(live[j]); n > 0 {
						at := r.IntN(n)
						caches[j].Free(live[j][at])
						live[j][at] = live[j][n-1]
						live[j] = live[j][:n-1]
					}
				}
			}
		}
		if refused == 0 {
			t.Error("the limit was never reached")
		}
		for i, c := range caches {
			checkRest(t, c, live[i])
			freeAll(c, live[i])
		}
	})
}

// A reclaim looks at caches that were used since the last one, however many
// there are, and those that it has emptied work on as before.
func TestReclaimLeavesIdleCaches(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		const unused, used = 50, 20
		for i := range unused {
			newCache(t, a, fmt.Sprint("unused", i), 64, CacheOptions{})
		}
		var caches []*Cache
		for i := range used {
			c := newCache(t, a, fmt.Sprint("used", i), 64, CacheOptions{})
			freeAll(c, allocN(t, c, 100))
			caches = append(caches, c)
		}
		if n := a.active.n.Load(); n != used {
			t.Errorf("%d caches are active; want the %d that were used", n, used)
		}
		c := newCache(t, a, "c", 64, CacheOptions{})
		a.SetMemoryLimit(1)
		if c.Alloc() != nil || a.MemoryUsed() != 0 {
			t.Errorf("an object at a limit of one byte, or %d bytes are in use though all is free", a.MemoryUsed())
		}
		if n := a.active.n.Load(); n != 0 {
			t.Errorf("%d caches are active after a reclaim that emptied all", n)
		}
		reclaims := a.reclaims.Load()
		a.reclaimer.mu.Lock() // nobody needs it, nor those of the other caches
		a.flushLock.Lock()
		for _, c := range caches {
			c.core.lockCPUs()
		}
		done := make(chan struct{})
		go func() { // it does not hold those locks
			defer close(done)
			for range 100 {
				if c.Alloc() != nil {
					t.Error("an object at a limit of one byte")
				}
			}
		}()
		within("nil Allocs with all caches idle", func() { <-done })
		for _, c := range caches {
			c.core.unlockCPUs()
		}
		a.flushLock.Unlock()
		a.reclaimer.mu.Unlock()
		if n := a.reclaims.Load() - reclaims; n != 0 {
			t.Errorf("100 nil Allocs with all caches idle were %d reclaims", n)
		}
		a.SetMemoryLimit(0)
		for _, c := range append(caches, c) {
			checkRest(t, c, nil)
			opened := total(c.Events(SheafAlloc))
			objs := allocN(t, c, 100)
			fast := total(c.Events(AllocFastpath))
			freeAll(c, objs[50:])
			objs = append(objs[:50], allocN(t, c, 20)...)
			if got := total(c.Events(AllocFastpath)) - fast; got < 20 {
				t.Errorf("%q: of 20 objects %d came from the sheaf, after a reclaim", c.Name(), got)
			}
			if got := total(c.Events(SheafAlloc)); opened > 0 && got < opened {
				t.Errorf("%q: %d sheaves were allocated, and then %d", c.Name(), opened, got)
			}
			checkRest(t, c, objs)
			freeAll(c, objs)
			destroy(t, c)
		}
		if n := a.active.n.Load(); n != 0 {
			t.Errorf("%d caches are active; all that were used are destroyed", n)
		}
	})
}

// A nil Alloc where nothing is to be had, beside many caches.
func BenchmarkNil(b *testing.B) {
	for _, caches := range []int{0, 5000} {
		b.Run(fmt.Sprint("caches=", caches), func(b *testing.B) {
			a := newAllocator(b, Options{})
			for i := range caches {
				c := newCache(b, a, fmt.Sprint("idle", i), 64, CacheOptions{})
				c.Free(c.Alloc())
			}
			c := newCache(b, a, "c", 64, CacheOptions{})
			a.SetMemoryLimit(1)
			c.Alloc()
			for b.Loop() {
				c.Alloc()
			}
		})
	}
}

// For a millisecond after a reclaim that freed nothing, the next one leaves the
// sheaves of caches alone that have no empty slab.
func TestReclaimLeavesSheaves(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c, slabs := halves(t, a)
		half := c.core.objects / 2
		freeAll(c, slabs[0][:half])
		freeAll(c, slabs[1][:half])
		other := newCache(t, a, "other", 512, CacheOptions{})
		cached := c.Stats().Cached
		r := &a.reclaimer
		r.mu.Lock()
		r.gained, r.ended = false, time.Now().Add(time.Minute)
		r.mu.Unlock()
		for range 10 {
			if other.Alloc() != nil {
				t.Fatal("an object, though no slab is empty")
			}
		}
		if got := c.Stats().Cached; got != cached || cached == 0 {
			t.Errorf("%d free objects are on sheaves, and were %d before another cache's nil Allocs", got, cached)
		}
		r.mu.Lock()
		r.ended = time.Time{}
		r.mu.Unlock()
		if other.Alloc() != nil || c.Stats().Cached != 0 {
			t.Errorf("a reclaim after that time leaves %d objects on sheaves", c.Stats().Cached)
		}
		for _, objs := range slabs {
			freeAll(c, objs[half:])
		}
	})
}

// Where nothing is in use any more, but a reclaim is still under way, Alloc waits
// for what that gains.
func TestNilWaitsForReclaim(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "c", 64, CacheOptions{})
		a.SetMemoryLimit(1)
		if c.Alloc() != nil || a.active.n.Load() != 0 {
			t.Fatalf("an object at a limit of one byte, or %d caches are active", a.active.n.Load())
		}
		r := &a.reclaimer
		r.mu.Lock()
		r.running.Store(true) // as if it had just emptied the last cache
		got := make(chan unsafe.Pointer)
		go func() { got <- c.Alloc() }()
		select {
		case obj := <-got:
			t.Fatalf("Alloc returned %p while a reclaim is under way", obj)
		case <-time.After(5 * time.Millisecond):
		}
		a.SetMemoryLimit(0)
		r.gained = true
		a.reclaims.Add(1)
		r.running.Store(false)
		r.mu.Unlock()
		obj := <-got
		if obj == nil {
			t.Fatal("nil after a reclaim that gained pages")
		}
		c.Free(obj)
	})
}

// Who waited for a reclaim that gained pages tries again, and starts none.
func TestReclaimIsShared(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "c", 64, CacheOptions{})
		freeAll(c, allocN(t, c, 100))
		cached := c.Stats().Cached
		seen := a.newAttempt()
		r := &a.reclaimer
		r.mu.Lock()
		r.gained = true
		r.mu.Unlock()
		a.reclaims.Add(1)
		if !a.reclaim(seen, nil) || c.Stats().Cached != cached || cached == 0 {
			t.Errorf("%d objects are on sheaves, and were %d before a reclaim whose result another one had", c.Stats().Cached, cached)
		}
	})
}

// What a flush sets, and what follows it, is under flush_lock: no destroy counts
// objects meanwhile.
func TestFlushHoldsItsLock(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "c", 64, CacheOptions{})
		freeAll(c, allocN(t, c, 100))
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		calls := 0
		mustHold := func() {
			calls++
			held := make(chan bool)
			go func() {
				err := a.flushLock.LockContext(ended)
				if err == nil {
					a.flushLock.Unlock()
				}
				held <- err != nil
			}()
			if !<-held {
				t.Error("flush_lock is free during a flush")
			}
		}
		if err := c.core.flushAll(context.Background(), mustHold, mustHold); err != nil || calls != 2 {
			t.Errorf("flush: %v, after %d calls; want 2", err, calls)
		}
	})
}
