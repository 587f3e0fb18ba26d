package alloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

var typesafe = CacheOptions{Flags: TypesafeByRCU}

// emptied returns a typesafe-by-RCU cache whose slabs are all free, and the stamped
// objects that it had. They wait for a grace period.
func emptied(t *testing.T, a *Allocator, name string) (*Cache, []unsafe.Pointer) {
	t.Helper()
	c := newCache(t, a, name, 64, typesafe)
	objs := allocN(t, c, 500)
	for i, obj := range objs {
		stamp(bytesAt(obj, 64), uint64(i))
	}
	freeAll(c, objs)
	c.Shrink()
	return c, objs
}

// checkUntouched fails unless the objects of emptied have the content that they had.
func checkUntouched(t *testing.T, objs []unsafe.Pointer) {
	t.Helper()
	for i, obj := range objs {
		if !stamped(bytesAt(obj, 64), uint64(i)) {
			t.Errorf("object %d of %d was overwritten while a reader could look at it", i, len(objs))
			return // the reader goes on, for which Close waits
		}
	}
}

// greed takes pages from whoever has no right to them any more, and writes to them.
func greed(t *testing.T, a *Allocator) {
	t.Helper()
	c := newCache(t, a, "greed", 64, CacheOptions{})
	objs := allocN(t, c, 5000)
	for _, obj := range objs {
		stamp(bytesAt(obj, 64), ^uint64(0))
	}
	freeAll(c, objs)
	destroy(t, c)
	b := a.Bytes(1 << 20)
	stamp(b, ^uint64(0))
	a.FreeBytes(b)
	pages.Return(0)
}

// What a reader found stays as it is until the reader leaves, though its slab was
// given back, and its cache destroyed.
func TestTypesafeOutlivesReader(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		section := a.RCU().ReadLock()
		c, objs := emptied(t, a, "typesafe")
		size := int64(slabBytes(c.core.order)) * int64((len(objs)+c.core.objects-1)/c.core.objects)
		if s := c.Stats(); s.Slabs != 0 || a.MemoryUsed() != size || a.MemoryWaiting() != size {
			t.Errorf("%d slabs, %d bytes in use, %d wait; want 0, %d, %[4]d", s.Slabs, a.MemoryUsed(), a.MemoryWaiting(), size)
		}
		if made, gone := sum(c.Events(AllocSlab)), sum(c.Events(FreeSlab)); made != gone {
			t.Errorf("alloc_slab is %d, free_slab %d, without slabs", made, gone)
		}
		greed(t, a)
		checkUntouched(t, objs)
		mustPanic(t, func() { c.Free(objs[0]) }, "which no cache holds now")
		destroy(t, c)
		greed(t, a)
		checkUntouched(t, objs)
		for _, obj := range objs {
			if p, ok := pages.Of(obj); !ok || pages.Owner(p) != 0 {
				t.Fatal("a page that waits belongs to a cache")
			}
		}
		a.RCU().ReadUnlock(section)
		soon("the end of the grace period", func() bool { return a.MemoryWaiting() == 0 && c.core.released.Load() })
		if n := a.MemoryUsed(); n != 0 {
			t.Errorf("%d bytes in use after the grace period", n)
		}
	})
}

// A freed object is used again at once, also within a section, and nobody but its
// users writes to it: what was constructed once stays constructed.
func TestTypesafeReuse(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		section := a.RCU().ReadLock()
		defer a.RCU().ReadUnlock(section)
		built := 0
		c := newCache(t, a, "reused", 64, CacheOptions{Flags: TypesafeByRCU, Ctor: func(obj unsafe.Pointer) {
			stamp(bytesAt(obj, 64), uint64(uintptr(obj)))
			built++
		}})
		for range 3 {
			objs := allocN(t, c, 1000)
			slabs := make(map[pages.Page]bool)
			for _, obj := range objs {
				slabs[c.core.slabOf(obj)] = true
				if !stamped(bytesAt(obj, 64), uint64(uintptr(obj))) {
					t.Fatal("an object is not as it was constructed")
				}
			}
			was := built
			freeAll(c, objs)
			if err := c.SetCPUPartial(c.CPUPartial()); err != nil {
				t.Fatal(err)
			}
			for _, obj := range objs {
				if !stamped(bytesAt(obj, 64), uint64(uintptr(obj))) {
					t.Fatal("something wrote to a free object")
				}
			}
			obj := c.Alloc()
			if !slabs[c.core.slabOf(obj)] || built != was {
				t.Error("a free object is not used again before a grace period")
			}
			c.Free(obj)
		}
		if made := int(sum(c.Events(AllocSlab))) * c.core.objects; built != made {
			t.Errorf("%d objects were constructed, of %d in new slabs", built, made)
		}
		destroy(t, c)
	})
}

// What clears objects is refused.
func TestTypesafeIsNotCleared(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "typesafe", 64, typesafe)
	mustPanic(t, func() { c.AllocZeroed() }, `AllocZeroed on cache "typesafe"`, "use Alloc")
	if s := c.Stats(); s.Objects != 0 {
		t.Errorf("%d objects are live", s.Objects)
	}
	if _, err := NewTyped[point](a, "typed", typesafe); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "use NewCache") {
		t.Errorf("NewTyped: %v; want ErrInvalid", err)
	}
}

// Destroy does not wait for readers, and when it returns the name is free. The cache
// itself waits, and what is destroyed stays so.
func TestDestroyTypesafe(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		var old []*Cache
		section := a.RCU().ReadLock()
		within("destroy while a reader is inside", func() {
			for range 5 {
				c, _ := emptied(t, a, "typesafe")
				obj := c.Alloc()
				if err := c.Destroy(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "1 objects are in use") {
					t.Errorf("Destroy with a live object: %v", err)
				}
				c.Free(obj)
				destroy(t, c)
				expect(t, trees, "publish typesafe", "unlink typesafe")
				mustPanic(t, func() { _ = c.Destroy() }, `"typesafe"`)
				mustPanic(t, func() { c.Alloc() }, `"typesafe"`)
				mustPanic(t, func() { c.Free(obj) }, `Free on cache "typesafe" after its Destroy`)
				old = append(old, c)
			}
		})
		for i, c := range old {
			if c.core.released.Load() {
				t.Errorf("cache %d is released while a reader is inside", i)
			}
		}
		if n, batches := a.RCUReleases(); n != 0 || batches != 0 {
			t.Errorf("%d caches in %d batches are released; want none", n, batches)
		}
		a.RCU().ReadUnlock(section)
		soon("the releases", func() bool { n, _ := a.RCUReleases(); return n == uint64(len(old)) })
		for i, c := range old {
			if !c.core.released.Load() {
				t.Errorf("cache %d is not released", i)
			}
		}
		if n := a.MemoryUsed(); n != 0 {
			t.Errorf("%d bytes in use after the releases", n)
		}
	})
}

// A release waits for the callbacks that free the cache's slabs, which run some time
// after the grace period.
func TestReleaseAfterCallbacks(t *testing.T) {
	a := newAllocator(t, Options{})
	goOn := make(chan struct{})
	a.RCU().Call(func() { <-goOn }) // and the cache's come after it
	c, objs := emptied(t, a, "typesafe")
	destroy(t, c)
	for range 100 {
		if err := a.RCU().Synchronize(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if c.core.released.Load() {
		t.Error("a cache is released before the callbacks that free its slabs have run")
	}
	checkUntouched(t, objs)
	close(goOn)
	soon("the release", func() bool { n, _ := a.RCUReleases(); return n == 1 && a.MemoryWaiting() == 0 })
	if n := a.misuse.Swap(0); n != 0 {
		t.Errorf("%d callbacks met a released cache", n)
	}
}

// That goes for slabs as well that came too late for their cache's last callback: destroy
// queues another one, for which Barrier waits.
func TestReleaseAfterLateCallbacks(t *testing.T) {
	a := newAllocator(t, Options{})
	running, goOn := make(chan struct{}), make(chan struct{})
	block := func() {
		running <- struct{}{}
		<-goOn
	}
	a.RCU().Call(block) // what follows is for the next grace period
	<-running
	a.RCU().Call(func() { a.RCU().Call(block) }) // and what the cache's callback would queue comes after this
	c, objs := emptied(t, a, "typesafe")
	if err := a.RCU().Synchronize(); err != nil {
		t.Fatal(err)
	}
	a.SetMemoryLimit(a.MemoryUsed())
	freeAll(c, fill(c))
	c.Shrink() // after the begin of some grace period: too late
	a.SetMemoryLimit(0)
	if a.MemoryWaiting() == 0 {
		t.Errorf("of %d objects no slab waits", len(objs))
	}
	destroy(t, c)
	goOn <- struct{}{}
	<-running
	if n := a.MemoryWaiting(); n != 0 {
		t.Errorf("%d bytes of a destroyed cache wait for a callback that came after its destroy", n)
	}
	goOn <- struct{}{}
	soon("the release", func() bool { n, _ := a.RCUReleases(); return n == 1 })
}

// However many caches are destroyed, those that wait at the same time wait once.
func TestDestroysShareGracePeriods(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		n := scaled(1000)
		before := a.RCU().Stats()
		section := a.RCU().ReadLock()
		for i := range n {
			c := newCache(t, a, fmt.Sprint("typesafe", i), 64, typesafe)
			c.Free(c.Alloc())
			destroy(t, c)
		}
		if released, _ := a.RCUReleases(); released != 0 {
			t.Errorf("%d caches are released while a reader is inside", released)
		}
		a.RCU().ReadUnlock(section)
		soon("the releases", func() bool { released, _ := a.RCUReleases(); return released == uint64(n) })
		_, batches := a.RCUReleases()
		after := a.RCU().Stats()
		if grace := after.GracePeriods - before.GracePeriods; batches > 2 || grace > 3 || after.Called-before.Called < uint64(n) {
			t.Errorf("%d destroys: %d batches, %d grace periods, %d callbacks; want at most 2, at most 3, one for each slab",
				n, batches, grace, after.Called-before.Called)
		}
	})
}

// Close waits for readers when all else is done, and not before: with live objects it
// returns at once.
func TestCloseWaitsForReaders(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		section := a.RCU().ReadLock()
		c, objs := emptied(t, a, "typesafe")
		obj := c.Alloc()
		within("Close with live objects", func() { mustBusy(t, a, "typesafe (1 objects)") })
		c.Free(obj)
		if n := a.Misuse(); n != 0 {
			t.Errorf("%d uses of a released cache", n)
		}
		closed := make(chan error)
		go func() { closed <- a.Close() }()
		soon("the end of all caches", func() bool { return len(a.Caches()) == 0 })
		select {
		case err := <-closed:
			t.Fatalf("Close = %v while a reader is inside", err)
		case <-time.After(20 * time.Millisecond):
		}
		greed := newCache(t, newAllocator(t, Options{}), "greed", 64, CacheOptions{})
		freeAll(greed, allocN(t, greed, 5000))
		checkUntouched(t, objs)
		if _, err := a.NewCache("late", 8, typesafe); !errors.Is(err, ErrClosed) {
			t.Errorf("NewCache while Close waits: %v", err)
		}
		a.RCU().ReadUnlock(section)
		within("Close", func() {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
		if !c.core.released.Load() {
			t.Error("Close returned before a release")
		}
		mustPanic(t, func() { a.RCU().ReadLock() }, "closed domain")
	})
}

// A create that fails late gives back what a Publisher made of the cache meanwhile.
func TestPublishOfTypesafeFails(t *testing.T) {
	a := newAllocator(t, Options{})
	tree := newTree(t, "A")
	detach := tree.attach(a)
	section := a.RCU().ReadLock()
	var used *Cache
	var objs []unsafe.Pointer
	tree.publish = func(c *Cache) error {
		used, objs = c, allocN(t, c, 500)
		for i, obj := range objs {
			stamp(bytesAt(obj, 64), uint64(i))
		}
		freeAll(c, objs)
		return errors.New("no room")
	}
	if _, err := a.NewCache("typesafe", 64, typesafe); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Fatalf("NewCache: %v", err)
	}
	detach()
	greed(t, a)
	checkUntouched(t, objs)
	if used.core.released.Load() {
		t.Error("released while a reader is inside")
	}
	c := newCache(t, a, "typesafe", 64, typesafe)
	a.RCU().ReadUnlock(section)
	soon("the release", func() bool { return used.core.released.Load() && a.MemoryWaiting() == 0 })
	destroy(t, c)
}

// Callbacks and work items may destroy caches: nobody waits for them there.
func TestDestroyInCallbacks(t *testing.T) {
	a := newAllocator(t, Options{})
	var done atomic.Int32
	within("destroy in callbacks", func() {
		for i := range 20 {
			c, _ := emptied(t, a, fmt.Sprint("typesafe", i))
			a.RCU().Call(func() {
				if err := a.Close(); !errors.Is(err, ErrCallback) {
					t.Errorf("Close in a callback: %v", err)
				}
				destroy(t, c)
				done.Add(1)
			})
		}
		soon("the releases", func() bool { n, _ := a.RCUReleases(); return n == 20 && done.Load() == 20 })
	})
}

// At the limit nobody waits for a grace period, not even if nothing but one stands
// between an Alloc and its memory. When it has passed the memory can be had. Its own
// cache needs no grace period: it has it at once, as it was freed.
func TestLimitAndGracePeriod(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c, d := newCache(t, a, "typesafe", 64, typesafe), newCache(t, a, "plain", 64, CacheOptions{})
		const limit = 256 << 10
		a.SetMemoryLimit(limit)
		for range 3 {
			section := a.RCU().ReadLock()
			objs := fill(c)
			if want := limit / 64; len(objs) != want {
				t.Errorf("%d objects at the limit; want %d", len(objs), want)
			}
			freeAll(c, objs)
			within("Alloc at the limit", func() {
				for range 20 {
					if d.Alloc() != nil || a.Bytes(100_000) != nil {
						t.Fatal("memory that waits for a grace period was handed out")
					}
				}
			})
			if used, waiting := a.MemoryUsed(), a.MemoryWaiting(); used != limit || waiting != used {
				t.Errorf("%d bytes in use, %d of them wait; want %d, all", used, waiting, limit)
			}
			for range 5 { // dropped again each time, while its first callback is still to come
				for _, obj := range objs {
					stamp(bytesAt(obj, 64), uint64(uintptr(obj)))
				}
				again := fill(c)
				if len(again) != len(objs) || a.MemoryUsed() != limit || a.MemoryWaiting() != 0 {
					t.Errorf("%d of %d objects again, %d bytes in use, %d wait; want all, %d, 0", len(again), len(objs), a.MemoryUsed(), a.MemoryWaiting(), limit)
				}
				for _, obj := range again {
					if !stamped(bytesAt(obj, 64), uint64(uintptr(obj))) {
						t.Fatal("an object was overwritten while it was free")
					}
				}
				checkRest(t, c, again)
				freeAll(c, again)
				c.Shrink()
				if made, gone := sum(c.Events(AllocSlab)), sum(c.Events(FreeSlab)); made != gone || c.Stats().Slabs != 0 {
					t.Errorf("alloc_slab is %d, free_slab %d, slabs %d, and all were dropped", made, gone, c.Stats().Slabs)
				}
			}
			a.RCU().ReadUnlock(section)
			var obj unsafe.Pointer
			soon("memory after the grace period", func() bool { obj = d.Alloc(); return obj != nil })
			d.Free(obj)
			soon("all of it", func() bool { return a.MemoryWaiting() == 0 })
			more := fill(d)
			if len(more) != len(objs) {
				t.Errorf("%d objects after the grace period; want %d", len(more), len(objs))
			}
			freeAll(d, more)
			d.Shrink()
		}
	})
}

// A slab that was taken back and dropped again waits for readers that came meanwhile,
// though the callback that it had before runs while they are inside; and so does its cache.
func TestTakenBackOutlivesReader(t *testing.T) {
	for _, destroyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("destroyed=%v", destroyed), func(t *testing.T) {
			engines(t, func(t *testing.T, a *Allocator) {
				begun := a.RCU().Begun()
				first := a.RCU().ReadLock()
				c, objs := emptied(t, a, "typesafe")
				size := a.MemoryUsed()
				soon("the begin of the first grace period", func() bool { return a.RCU().Begun() > begun })

				a.SetMemoryLimit(size)
				again := fill(c)
				if len(again) < len(objs) || a.MemoryWaiting() != 0 {
					t.Fatalf("%d of %d objects again, %d bytes still wait", len(again), len(objs), a.MemoryWaiting())
				}
				a.SetMemoryLimit(0)
				second := a.RCU().ReadLock()
				for i, obj := range objs {
					stamp(bytesAt(obj, 64), uint64(i))
				}
				freeAll(c, again)
				c.Shrink()
				if destroyed {
					destroy(t, c)
					if c.core.takeWaiting() { // as an Alloc that met the limit before the destroy
						t.Error("a core that is gone takes a slab back, which nobody will free")
					}
				}

				ran := a.RCU().Stats().Ran
				a.RCU().ReadUnlock(first)
				soon("the first callback", func() bool { return a.RCU().Stats().Ran > ran })
				greed(t, a)
				checkUntouched(t, objs)
				if waiting := a.MemoryWaiting(); waiting != size || c.core.released.Load() {
					t.Errorf("%d bytes wait, released is %v; want %d, false", waiting, c.core.released.Load(), size)
				}
				a.RCU().ReadUnlock(second)
				soon("the second grace period", func() bool { return a.MemoryWaiting() == 0 && c.core.released.Load() == destroyed })
				if used := a.MemoryUsed(); used != 0 {
					t.Errorf("%d bytes in use after the last grace period", used)
				}
			})
		})
	}
}

// At the limit a typesafe-by-RCU cache finds what others have freed, wherever it is: a
// reclaim does not first make it wait for a grace period.
func TestTypesafeAcrossCPUs(t *testing.T) {
	first, second := twoCPUs(t)
	engines(t, func(t *testing.T, a *Allocator) {
		section := a.RCU().ReadLock()
		defer a.RCU().ReadUnlock(section)
		c := newCache(t, a, "typesafe", 64, typesafe)
		a.SetMemoryLimit(64 << 10)
		var objs []unsafe.Pointer
		pinned(t, first, func() { objs = fill(c) })
		for _, n := range []int{1, 2, 30, 61, 200} {
			freeAcross(t, c, first, second, objs[:n])
		}
		checkRest(t, c, objs)
		freeAll(c, objs)
		destroy(t, c)
	})
}

// A grace period that ends while somebody reclaims counts as memory gained.
func TestReclaimSharesGracePeriods(t *testing.T) {
	a := newAllocator(t, Options{})
	c, _ := emptied(t, a, "typesafe")
	seen := a.newAttempt()
	soon("the end of the grace period", func() bool { return a.MemoryWaiting() == 0 })
	if a.returned.Load() == seen.returned { // it came before the attempt: once more
		freeAll(c, allocN(t, c, 500))
		c.Shrink()
		soon("the end of the grace period", func() bool { return a.MemoryWaiting() == 0 })
	}
	for _, k := range []*core{nil, c.core} {
		if !a.reclaim(seen, k) {
			t.Error("no other attempt makes sense, though a slab was given back since the last one")
		}
		if a.reclaim(a.newAttempt(), k) {
			t.Error("another attempt makes sense, though nothing is free")
		}
	}
}

// Who would wait for readers with a lock held that a reader may take is reported,
// and what the allocator does is not.
func TestGracePeriodUnderLock(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	for what, wait := range map[string]func(a *Allocator) error{
		"Synchronize": func(a *Allocator) error { return a.RCU().Synchronize() },
		"Barrier":     func(a *Allocator) error { return a.RCU().Barrier() },
	} {
		for _, locked := range []bool{false, true} {
			report := lockdep.Alone(func() {
				a, err := New(Options{})
				if err != nil {
					t.Fatal(err)
				}
				c, _ := emptied(t, a, "typesafe")
				destroy(t, c)
				if locked {
					a.mu.Lock()
				}
				if err := wait(a); err != nil {
					t.Error(err)
				}
				if locked {
					a.mu.Unlock()
				}
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			})
			if reported := strings.Contains(report, "is trying to acquire lock:\n") && strings.Contains(report, "rcu_grace_period --> "); reported != locked {
				t.Errorf("%s, with slab_mutex held: %v; reported:\n%s", what, locked, report)
			}
		}
	}
}

// What readers look up: each generation is one cache, all of whose objects carry its
// tag from the constructor on.
type generation struct {
	cache *Cache
	tag   uint64
	slots [16]atomic.Uint64 // addresses of objects; 0: none
}

// A record is an object of it.
type record struct{ tag, refs, key uint64 }

const slotBusy = 1 // a writer has it

func (g *generation) record(word uint64) *record {
	at := uintptr(word)
	return *(**record)(unsafe.Pointer(&at))
}

// lookup is what a reader does: it may find an object that was freed or used again, but
// always one of this cache. It returns whether it got a reference on the right one.
func (g *generation) lookup(t *testing.T, i, looks int) bool {
	word := g.slots[i].Load()
	if word <= slotBusy {
		return false
	}
	for range looks { // so that it is freed meanwhile
		runtime.Gosched()
		if tag := atomic.LoadUint64(&g.record(word).tag); tag != g.tag {
			t.Errorf("a reader found the tag %#x; its cache's is %#x", tag, g.tag)
			return false
		}
	}
	e := g.record(word)
	for refs := atomic.LoadUint64(&e.refs); ; refs = atomic.LoadUint64(&e.refs) {
		if refs == 0 {
			return false // it is free
		}
		if atomic.CompareAndSwapUint64(&e.refs, refs, refs+1) {
			break
		}
	}
	right := atomic.LoadUint64(&e.key) == uint64(i) // it may be another record by now
	g.put(word)
	return right
}

// put gives a reference back; the last one frees the object.
func (g *generation) put(word uint64) {
	e := g.record(word)
	if atomic.AddUint64(&e.refs, ^uint64(0)) == 0 {
		g.cache.Free(unsafe.Pointer(e))
	}
}

// replace puts a new object into a slot, or none.
func (g *generation) replace(i int, fill bool) {
	old := g.slots[i].Swap(slotBusy)
	if old == slotBusy {
		return // another writer's
	}
	if old != 0 {
		g.put(old)
	}
	word := uint64(0)
	if fill {
		if obj := g.cache.Alloc(); obj != nil {
			e := (*record)(obj)
			atomic.StoreUint64(&e.key, uint64(i))
			atomic.StoreUint64(&e.refs, 1) // readers may take it from here on
			word = uint64(uintptr(obj))
		}
	}
	g.slots[i].Store(word)
}

// Readers look objects up, take references and check what they got, while others
// replace and free them, shrink, flush, reclaim, and destroy the caches one after the
// other, with and without a limit; and a plain cache takes every page that it can get and
// overwrites it. No reader ever meets anything but an object of its own cache.
func TestTypesafeTorture(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		const size = 8 << 10 // 4 in a slab, so that slabs become empty
		var current atomic.Pointer[generation]
		next := func(n uint64) *generation {
			g := &generation{tag: 0x5ab0<<48 | n}
			g.cache = newCache(t, a, "typesafe", size, CacheOptions{Flags: TypesafeByRCU, Ctor: func(obj unsafe.Pointer) {
				e := (*record)(obj)
				e.tag, e.refs, e.key = g.tag, 0, 0
			}})
			g.cache.SetMinPartial(0)
			return g
		}
		current.Store(next(0))
		stop := make(chan struct{})
		var looked, found, generations atomic.Int64
		var writing lockdep.RWSem // read: to replace; written: to end a generation
		reader := func(r *rand.Rand) {
			section := a.RCU().ReadLock()
			defer a.RCU().ReadUnlock(section)
			g := current.Load()
			for range 20 {
				looked.Add(1)
				if g.lookup(t, r.IntN(len(g.slots)), r.IntN(20)) {
					found.Add(1)
				}
			}
		}
		writer := func(r *rand.Rand) {
			writing.RLock()
			defer writing.RUnlock()
			g := current.Load()
			for range 20 {
				g.replace(r.IntN(len(g.slots)), r.IntN(4) > 0)
			}
		}
		predator := newCache(t, a, "predator", size, CacheOptions{Flags: NoMerge})
		predator.SetMinPartial(0)
		wait := disturb(stop, reader, reader, reader, writer, writer,
			func(r *rand.Rand) {
				writing.RLock()
				defer writing.RUnlock()
				switch c := current.Load().cache; r.IntN(4) {
				case 0:
					if err := c.SetCPUPartial(r.UintN(200)); err != nil {
						t.Error(err)
					}
				case 1:
					a.emptyCores(nil, true)
				case 2: // where slabs that wait are taken back
					a.SetMemoryLimit(a.MemoryUsed() * r.Int64N(2))
				default:
					c.Shrink()
				}
			},
			func(r *rand.Rand) {
				var objs []unsafe.Pointer
				for range 1 + r.IntN(50) {
					obj := predator.Alloc()
					if obj == nil {
						break
					}
					e := (*record)(obj)
					e.tag, e.refs, e.key = ^uint64(0), 1, 0
					objs = append(objs, obj)
				}
				freeAll(predator, objs)
				predator.Shrink()
			},
			func(*rand.Rand) {
				time.Sleep(time.Millisecond)
				writing.Lock()
				old := current.Load()
				for i := range old.slots {
					old.replace(i, false)
				}
				within("destroy while readers have references", func() {
					for err := old.cache.Destroy(); err != nil; err = old.cache.Destroy() {
						if !errors.Is(err, ErrBusy) {
							t.Error(err)
							break
						}
						runtime.Gosched()
					}
				})
				current.Store(next(uint64(generations.Add(1))))
				writing.Unlock()
			})
		soon("enough lookups", func() bool {
			return t.Failed() || found.Load() > int64(scaled(*opsFlag/500)) && generations.Load() > int64(scaled(100))
		})
		close(stop)
		within("the end of the torture", wait)
		last := current.Load()
		for i := range last.slots {
			last.replace(i, false)
		}
		destroy(t, last.cache)
		t.Logf("%d lookups, %d of them found what they wanted; %d destroys, grace periods: %+v", looked.Load(), found.Load(), generations.Load(), a.RCU().Stats())
		within("Close", func() {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
		if n, _ := a.RCUReleases(); n != uint64(generations.Load())+1 {
			t.Errorf("%d releases of %d caches", n, generations.Load()+1)
		}
	})
}

// Several goroutines create and destroy typesafe-by-RCU caches and plain ones, and
// readers come and go: each release is after its unlink, once, and none is left out.
func TestParallelTypesafeDestroys(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		for _, tree := range trees {
			tree.unlink = func(*Cache) { runtime.Gosched() } // checks beside that nothing is released before
		}
		stop := make(chan struct{})
		wait := disturb(stop, func(r *rand.Rand) {
			section := a.RCU().ReadLock()
			time.Sleep(time.Duration(r.IntN(200)) * time.Microsecond)
			a.RCU().ReadUnlock(section)
		}, func(*rand.Rand) { a.Hotplug().Lock(); a.Hotplug().Unlock(); time.Sleep(50 * time.Microsecond) })
		n := scaled(300)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for range n {
					o := typesafe
					if g == 3 {
						o = CacheOptions{}
					}
					c := newCache(t, a, fmt.Sprint("cache", g), 64, o)
					freeAll(c, allocN(t, c, 100))
					destroy(t, c)
				}
			})
		}
		within("parallel destroys", wg.Wait)
		close(stop)
		wait()
		soon("the releases", func() bool { released, _ := a.RCUReleases(); return released == uint64(3*n) })
		_, batches := a.RCUReleases()
		t.Logf("%d caches in %d batches", 3*n, batches)
		for _, tree := range trees {
			tree.take()
		}
	})
}
