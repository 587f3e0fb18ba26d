package alloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/pages"
	"slabfs/internal/percpu"
)

// fill allocates until Alloc returns nil.
func fill(c *Cache) (objs []unsafe.Pointer) {
	for obj := c.Alloc(); obj != nil; obj = c.Alloc() {
		objs = append(objs, obj)
	}
	return objs
}

// What one cache freed, on any goroutine, another one gets, to the last page.
func TestLimitIsHonest(t *testing.T) {
	limit := 128<<10 + scaled(2<<20)&^(128<<10-1)
	a := newAllocator(t, Options{})
	var sizes []int
	for _, s := range kmallocSizes {
		sizes = append(sizes, s.bytes)
	}
	sizes = append(sizes, 20_000, 100_000)
	for i, size := range sizes {
		for _, second := range []int{size, sizes[(i+3)%len(sizes)]} {
			c := newCache(t, a, "first", size, CacheOptions{})
			a.SetMemoryLimit(int64(limit))
			want := limit / slabBytes(c.core.order) * c.core.objects
			objs := fill(c)
			if len(objs) != want {
				t.Errorf("%d objects of %d bytes; want %d", len(objs), size, want)
			}
			bulk := []unsafe.Pointer{objs[0], objs[0]}
			if c.AllocBulk(bulk) || bulk[0] != nil || bulk[1] != nil {
				t.Errorf("AllocBulk at the limit fills %v", bulk)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				freeAll(c, objs)
			}()
			<-done
			d := newCache(t, a, "second", second, CacheOptions{})
			want = limit / slabBytes(d.core.order) * d.core.objects
			more := fill(d)
			if len(more) != want {
				t.Errorf("%d objects of %d bytes after %d of %d bytes were freed; want %d", len(more), second, len(objs), size, want)
			}
			a.SetMemoryLimit(0)
			if s := c.Stats(); s.Slabs != 0 {
				t.Errorf("%d empty slabs left by a reclaim", s.Slabs)
			}
			freeAll(d, more)
			destroy(t, c)
			destroy(t, d)
		}
	}
}

// freeAcross frees objects on the second CPU while the memory limit is reached: the
// first gets as many, which take their place.
func freeAcross(t *testing.T, c *Cache, first, second int, objs []unsafe.Pointer) {
	t.Helper()
	pinned(t, second, func() { freeAll(c, objs) })
	var again []unsafe.Pointer
	pinned(t, first, func() { again = fill(c) })
	if len(again) != len(objs) {
		t.Errorf("%d objects after %d were freed on another CPU", len(again), len(objs))
	}
	copy(objs, again)
}

// At the limit a CPU gets what others have freed, in its own cache and at once.
func TestLimitAcrossCPUs(t *testing.T) {
	first, second := twoCPUs(t)
	a := newAllocator(t, Options{MemoryLimit: 64 << 10})
	c := newCache(t, a, "across", 64, CacheOptions{})
	var objs []unsafe.Pointer
	pinned(t, first, func() { objs = fill(c) })
	if want := 64 << 10 / 64; len(objs) != want {
		t.Errorf("%d objects; want %d", len(objs), want)
	}
	for _, n := range []int{1, 2, 30, 60, 61, 200, len(objs)} {
		freeAcross(t, c, first, second, objs[:n])
	}
	pinned(t, second, func() { freeAll(c, objs[:7]) })
	pinned(t, first, func() {
		dst := make([]unsafe.Pointer, 8)
		if c.AllocBulk(dst) || slices.ContainsFunc(dst, func(obj unsafe.Pointer) bool { return obj != nil }) {
			t.Errorf("AllocBulk of 8 objects with 7 to be had: %v", dst)
		}
		if !c.AllocBulk(dst[:7]) {
			t.Error("AllocBulk of 7 objects with 7 to be had failed")
		}
		copy(objs, dst[:7])
	})
	checkRest(t, c, objs)
	freeAll(c, objs)
}

// An attempt that fails takes nothing from the others, however large it is.
func TestLimitAgainstHugeAttempts(t *testing.T) {
	a := newAllocator(t, Options{MemoryLimit: 8 << 20})
	stop := make(chan struct{})
	wait := disturb(stop, func(r *rand.Rand) {
		for range 1000 {
			if a.reserve(8<<20+1) == nil {
				t.Error("more than the limit can be reserved")
			}
		}
	}, func(*rand.Rand) {
		if used := a.MemoryUsed(); used > 8<<20 {
			t.Errorf("%d bytes in use", used)
		}
	})
	for range scaled(1_000_000) {
		if err := a.reserve(pages.Size); err != nil {
			t.Error("far below the limit:", err)
			break
		}
		a.unreserve(pages.Size)
	}
	close(stop)
	wait()
}

// The limit changes while goroutines fill up to it: at no moment is more in use.
func TestLimitChanges(t *testing.T) {
	a := newAllocator(t, Options{MemoryLimit: 64 << 10})
	caches := []*Cache{newCache(t, a, "a", 64, CacheOptions{}), newCache(t, a, "b", 3000, CacheOptions{}), newCache(t, a, "c", 200, CacheOptions{})}
	r := random(t)
	stop := make(chan struct{})
	var got, refused atomic.Int64
	var actors []func(*rand.Rand)
	held := make([][]unsafe.Pointer, len(caches))
	for i, c := range caches {
		actors = append(actors, func(r *rand.Rand) {
			if obj := c.Alloc(); obj != nil {
				held[i] = append(held[i], obj)
				got.Add(1)
				return
			}
			refused.Add(1)
			freeAll(c, held[i])
			held[i] = held[i][:0]
		})
	}
	wait := disturb(stop, actors...)
	within("limit changes", func() {
		for range scaled(300) { // it only grows: then more is never in use
			limit := a.MemoryLimit() + int64(r.IntN(16<<10))
			a.SetMemoryLimit(limit)
			for range 20 {
				if used := a.MemoryUsed(); used > limit {
					t.Errorf("%d bytes in use; the limit is %d", used, limit)
				}
			}
			runtime.Gosched()
		}
		for range scaled(30) { // lowered below what is in use: then that does not grow
			a.SetMemoryLimit(1)
			used := a.MemoryUsed()
			for range 50 {
				now := a.MemoryUsed()
				if now > used {
					t.Errorf("%d bytes in use, and then %d, at a limit of one byte", used, now)
				}
				used = now
			}
			a.SetMemoryLimit(1 << 20)
			time.Sleep(100 * time.Microsecond)
		}
	})
	soon("nil at the limit", func() bool { return got.Load() > 0 && refused.Load() > 0 })
	close(stop)
	wait()
	for i, c := range caches {
		checkRest(t, c, held[i])
		freeAll(c, held[i])
	}
}

// What lies on another CPU's sheaf is found at the limit, also where the flush that brings it leaves
// no slab behind, and right after a reclaim that found nothing.
func TestLimitWithoutMinPartial(t *testing.T) {
	first, second := twoCPUs(t)
	for _, flags := range []Flags{0, TypesafeByRCU} {
		engines(t, func(t *testing.T, a *Allocator) {
			section := a.RCU().ReadLock() // nothing comes back by itself
			defer a.RCU().ReadUnlock(section)
			c := newCache(t, a, "none", 4096, CacheOptions{Flags: flags, SheafCapacity: 60})
			c.SetMinPartial(0)
			a.SetMemoryLimit(a.MemoryUsed() + int64(slabBytes(c.core.order)))
			for range 3 {
				var objs []unsafe.Pointer
				exactly(t, first, func() { objs = fill(c) })
				if len(objs) != c.core.objects {
					t.Fatalf("%d objects at the limit; want those of a slab, %d", len(objs), c.core.objects)
				}
				exactly(t, second, func() { freeAll(c, objs) })
				r := &a.reclaimer
				r.mu.Lock()
				r.gained, r.ended = false, time.Now().Add(time.Minute)
				r.mu.Unlock()
				exactly(t, first, func() { objs = fill(c) })
				if len(objs) != c.core.objects {
					t.Errorf("%d objects at the limit, with %d free; want all", len(objs), c.core.objects)
				}
				freeAll(c, objs)
				c.Shrink()
			}
			destroy(t, c)
		})
	}
}

// Goroutines loop at the limit, caches are destroyed, hotplug waits in the
// queue, and goroutines that need no memory go on: nobody waits for ever.
func TestLimitDoesNotBlock(t *testing.T) {
	a := newAllocator(t, Options{})
	calm := newCache(t, a, "calm", 64, CacheOptions{})
	keep := allocN(t, calm, 100) // its slabs stay
	var greedy []*Cache
	held := make([][]unsafe.Pointer, 3)
	for i := range held {
		greedy = append(greedy, newCache(t, a, "greedy"+string(rune('0'+i)), 64<<i, CacheOptions{}))
	}
	a.SetMemoryLimit(a.MemoryUsed() + 512<<10)
	stop := make(chan struct{})
	var refused, paired, churned, switched atomic.Int64
	var actors []func(*rand.Rand)
	for i, c := range greedy {
		actors = append(actors, func(r *rand.Rand) {
			if obj := c.Alloc(); obj != nil {
				held[i] = append(held[i], obj)
				return
			}
			if refused.Add(1)%8 == 0 && len(held[i]) > 0 {
				last := len(held[i]) - 1
				c.Free(held[i][last])
				held[i] = held[i][:last]
			}
		})
	}
	actors = append(actors,
		func(*rand.Rand) {
			for range 100 {
				obj := calm.Alloc()
				if obj == nil {
					t.Error("nil, from a cache with free objects")
					return
				}
				calm.Free(obj)
			}
			paired.Add(100)
		},
		func(*rand.Rand) {
			c, err := a.NewCache("passing", 64, CacheOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			if obj := c.Alloc(); obj != nil {
				c.Free(obj)
			}
			destroy(t, c)
			churned.Add(1)
		},
		func(*rand.Rand) {
			a.Hotplug().Lock()
			switched.Add(1)
			a.Hotplug().Unlock()
			time.Sleep(50 * time.Microsecond)
		},
	)
	wait := disturb(stop, actors...)
	soon("progress at the limit", func() bool {
		return refused.Load() > 1000 && paired.Load() > 100_000 && churned.Load() > 100 && switched.Load() > 100
	})
	close(stop)
	within("the end", wait)
	for i, c := range greedy {
		checkRest(t, c, held[i])
		freeAll(c, held[i])
	}
	checkRest(t, calm, keep)
	freeAll(calm, keep)
}

// Every allocation of pages and bitmaps fails once, one after the other: what
// was asked for fails, and nothing is lost.
func TestAllocationFails(t *testing.T) {
	t.Setenv(nodesEnv, oneNode) // with several, another attempt may find memory
	if !inChild(t, false) {     // for an arena that has to grow
		return
	}
	fired, last := true, int64(0)
	for n := int64(1); fired; n++ {
		a := newAllocator(t, Options{})
		var objs []unsafe.Pointer
		var bufs [][]byte
		c := newCache(t, a, "bitmap", 8, CacheOptions{}) // needs bitmaps
		d := newCache(t, a, "large", 9000, CacheOptions{Ctor: func(obj unsafe.Pointer) { stamp(bytesAt(obj, 9000), 1) }})
		failures := 0
		pages.FailNth(n)
		for range 1200 {
			if obj := c.Alloc(); obj != nil {
				objs = append(objs, obj)
			} else {
				failures++
			}
		}
		bulk := make([]unsafe.Pointer, 10)
		if !d.AllocBulk(bulk) {
			bulk = nil
			failures++
		}
		for _, size := range []int{8, 500, 8 << 10, 50_000, 5 << 20} {
			if b := a.Bytes(size); b != nil {
				bufs = append(bufs, b)
			} else {
				failures++
			}
		}
		fired = pages.FailNth(0)
		if fired != (failures == 1) || failures > 1 {
			t.Errorf("allocation %d failed: %v, and %d calls did", n, fired, failures)
		}
		checkRest(t, c, objs)
		checkRest(t, d, bulk)
		checkUnlocked(a)
		freeAll(c, objs)
		d.FreeBulk(bulk)
		for _, b := range bufs {
			a.FreeBytes(b)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if used := a.MemoryUsed(); used != 0 || pages.Warm() != pages.Mapped() {
			t.Fatalf("allocation %d failed: %d bytes in use after Close, %d mapped, %d free", n, used, pages.Mapped(), pages.Warm())
		}
		last = n
	}
	if last < 15 {
		t.Errorf("%d allocations failed in all", last)
	}
}

// Where not even a per-CPU area can be had, NewCache says so.
func TestNoPlace(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	a := newAllocator(t, Options{})
	for {
		if _, err := percpu.NewPlace(percpu.MaxCap); err != nil {
			break
		}
	}
	var err error
	for i := 0; err == nil; i++ { // into the rest
		_, err = a.NewCache(fmt.Sprint("c", i), 8, CacheOptions{})
	}
	if !errors.Is(err, ErrNoMemory) {
		t.Errorf("NewCache without room for its sheaves: %v; want ErrNoMemory", err)
	}
	mustWorkBytes(t, a)
}
