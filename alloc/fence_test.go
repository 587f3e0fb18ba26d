//go:build linux && amd64 && !race

package alloc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/alloc/rcu"
	"slabfs/internal/rseq"
)

// sequences returns an allocator on engine rseq, or skips the test where the
// machine has none; internal/rseq tests that it has one where it must.
func sequences(tb testing.TB, o Options) *Allocator {
	tb.Helper()
	o.Engine = RSeq
	a, err := New(o)
	switch {
	case err == nil:
		a.Close()
	case strings.Contains(err.Error(), "as it was written"): // nothing changes it in this binary
		tb.Fatal(err)
	case errors.Is(err, ErrNotBuilt):
		tb.Skip(err)
	}
	return newAllocator(tb, o)
}

// A fence may fail at any time. Then nothing has happened, whoever wanted it
// gets the error, and the cache works on.
func TestFenceFails(t *testing.T) {
	a := sequences(t, Options{})
	c := newCache(t, a, "fence", 64, CacheOptions{ShellDelete: true})
	objs := allocN(t, c, 500)
	freeAll(c, objs[300:])
	rseq.FailFences(true)
	defer rseq.FailFences(false)
	for what, f := range map[string]func() error{
		"SetCPUPartial":    func() error { return c.SetCPUPartial(7) },
		"SetSheafCapacity": func() error { return c.SetSheafCapacity(7) },
		"Shrink":           func() error { return c.ShrinkContext(t.Context()) },
		"Destroy":          c.Destroy,
		"DestroyName":      func() error { return a.DestroyName("fence") },
		"Close":            a.Close,
	} {
		if err := f(); !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), `close the sheaves of cache "`) {
			t.Errorf("%s: %v; want that of the fence", what, err)
		}
		checkRest(t, c, objs[:300])
		checkUnlocked(a)
		if c.CPUPartial() != 120 || c.SheafCapacity() != 60 {
			t.Errorf("%s: cpu_partial is %d, sheaf_capacity %d; want 120, 60 as before", what, c.CPUPartial(), c.SheafCapacity())
		}
		objs = append(objs[:300], allocN(t, c, 200)...)
		freeAll(c, objs[300:])
	}
	freeAll(c, objs[:300])
	if err := c.Destroy(); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("Destroy of an empty cache: %v", err)
	}
	rseq.FailFences(false)
	flush(t, c)
	if s := c.Stats(); s.Cached != 0 || s.Objects != 0 {
		t.Errorf("after a flush: %+v", s)
	}
	destroy(t, c)
}

// If a fence fails, the sheaves of all CPUs are open as before, of all caches that a
// Close would have ended.
func TestFenceFailsAndSheavesReopen(t *testing.T) {
	first, second := twoCPUs(t)
	cpus := []int{first, second}
	a := sequences(t, Options{})
	c, other := newCache(t, a, "fence", 64, CacheOptions{}), newCache(t, a, "other", 64, CacheOptions{})
	defer rseq.FailFences(false)
	for what, f := range map[string]func() error{
		"SetCPUPartial": func() error { return c.SetCPUPartial(7) },
		"Destroy":       c.Destroy,
		"Close":         a.Close,
		"SetOnline":     func() error { return a.SetOnline(first, false) },
	} {
		mustBeFast(t, "at first", cpus, c, other)
		rseq.FailFences(true)
		if err := f(); !errors.Is(err, unix.ENOMEM) {
			t.Errorf("%s: %v; want that of the fence", what, err)
		}
		rseq.FailFences(false)
		mustBeFast(t, what+" without a fence", cpus, c, other)
	}
}

// If the fence of a CPU that is to go offline fails, it stays online, with open sheaves.
func TestFenceFailsOffline(t *testing.T) {
	n, _ := twoCPUs(t)
	a := sequences(t, Options{})
	c := newCache(t, a, "fence", 64, CacheOptions{})
	unused := newCache(t, a, "unused", 64, CacheOptions{})
	pinned(t, n, func() { freeAll(c, allocN(t, c, 100)) })
	pc, cached, slabs := c.core.cpus[n], c.Stats().Cached, c.Stats().CPUSlabs
	rseq.FailFences(true)
	defer rseq.FailFences(false)
	for range 2 {
		err := a.SetOnline(n, false)
		if want := fmt.Sprintf(`take CPU %d offline: state "slab:online"`, n); !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), want) {
			t.Errorf("SetOnline without a fence: %v; want %s ...: ENOMEM", err, want)
		}
		if s := c.Stats(); !a.Hotplug().Online().Has(n) || s.Cached != cached || s.CPUSlabs != slabs {
			t.Errorf("online are %v, %d objects are cached, %d slabs kept; want %d, %d as before", a.Hotplug().Online(), s.Cached, s.CPUSlabs, cached, slabs)
		}
		checkRest(t, c, nil)
		checkUnlocked(a)
	}
	fast := c.Events(AllocFastpath)[n]
	pinned(t, n, func() { freeAll(c, allocN(t, c, 10)) })
	if got := c.Events(AllocFastpath)[n]; got < fast+9 || !pc.open.Load() {
		t.Errorf("of 10 objects %d came from the sheaf", got-fast)
	}
	if unused.core.cpus[n].open.Load() {
		t.Error("the sheaf of a cache that nobody used was opened")
	}
	rseq.FailFences(false)
	setOnline(t, a, n, false)
	if pc.area.Level() != 0 || pc.slabs.n != 0 {
		t.Errorf("offline: %d objects and %d slabs are kept", pc.area.Level(), pc.slabs.n)
	}
	checkRest(t, c, nil)
	destroy(t, c)
	destroy(t, unused)
}

// If only the second fence of a destroy fails, the destroy has happened; the area's
// place is never used again.
func TestSecondFenceFails(t *testing.T) {
	a := sequences(t, Options{})
	c := newCache(t, a, "second", 64, CacheOptions{})
	place := c.core.place
	freeAll(c, allocN(t, c, 100))
	tree := newTree(t, "A")
	tree.unlink = func(*Cache) { rseq.FailFences(true) } // between both
	detach := tree.attach(a)
	defer rseq.FailFences(false)
	destroy(t, c)
	rseq.FailFences(false)
	detach()
	if n := a.lostPlaces.Load(); n != 1 {
		t.Errorf("%d places are lost; want 1", n)
	}
	for i := range 50 {
		d := newCache(t, a, fmt.Sprint("heir", i), 64, CacheOptions{})
		defer destroy(t, d)
		if d.core.place == place {
			t.Error("a place that may be in use is handed out again")
		}
	}
}

// blockCallbacks has all callbacks of RCU from now on wait for goOn, and then for a
// grace period that has not begun.
func blockCallbacks(a *Allocator) (goOn func()) {
	blocked, end := make(chan struct{}), make(chan struct{})
	a.RCU().Call(func() { close(blocked); <-end })
	<-blocked
	return func() { close(end) }
}

// If the fence of a grace period fails, nothing that waits for it is released or given
// back, and it comes when fences work again.
func TestGracePeriodFails(t *testing.T) {
	a := sequences(t, Options{})
	tree := newTree(t, "A")
	tree.unlink = func(*Cache) { rseq.FailFences(true) } // the fences of the shutdown have worked
	detach := tree.attach(a)
	defer rseq.FailFences(false)
	goOn := blockCallbacks(a)
	c, objs := emptied(t, a, "typesafe")
	destroy(t, c)
	goOn()
	failed := a.RCU().Stats().FenceErrors
	soon("attempts", func() bool { return a.RCU().Stats().FenceErrors > failed+3 })
	if n, _ := a.RCUReleases(); n != 0 || c.core.released.Load() || a.MemoryWaiting() == 0 {
		t.Errorf("%d caches released, %d bytes wait, though no grace period has passed", n, a.MemoryWaiting())
	}
	checkUntouched(t, objs)
	rseq.FailFences(false)
	soon("the release", func() bool { n, _ := a.RCUReleases(); return n == 1 && a.MemoryWaiting() == 0 })
	if n := a.lostPlaces.Load(); n != 0 {
		t.Errorf("%d places are lost", n)
	}
	detach()
}

// A Close that fails for want of a fence can be called again, whichever fence it was.
func TestCloseFails(t *testing.T) {
	for _, last := range []bool{false, true} { // the one of the callbacks, the one of the domain's own end
		t.Run(fmt.Sprint("last=", last), func(t *testing.T) {
			a := sequences(t, Options{})
			goOn := blockCallbacks(a)
			c, _ := emptied(t, a, "typesafe")
			destroy(t, c)
			tree := newTree(t, "A")
			tree.unlink = func(c *Cache) {
				if c.Name() == "kmalloc-8k" { // nothing else is left
					rseq.FailFences(true)
					if !last {
						goOn()
					}
				}
			}
			tree.attach(a)
			defer rseq.FailFences(false)
			if last {
				goOn()
				soon("the release", func() bool { n, _ := a.RCUReleases(); return n == 1 })
			}
			for range 2 {
				if err := a.Close(); !errors.Is(err, rcu.ErrFence) || !strings.Contains(err.Error(), "close it again") {
					t.Errorf("Close: %v; want ErrFence", err)
				}
				a.runs.Add(1) // as if a Bytes had raced with it
				mustBusy(t, a, "1 bytes in whole pages")
				a.runs.Add(-1)
				if _, err := a.NewCache("late", 8, CacheOptions{}); !errors.Is(err, ErrClosed) {
					t.Errorf("NewCache after a Close that failed late: %v", err)
				}
			}
			rseq.FailFences(false)
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if n, _ := a.RCUReleases(); n != 1 {
				t.Errorf("%d releases; want 1", n)
			}
			if err := a.Close(); !errors.Is(err, ErrClosed) {
				t.Errorf("Close of a closed allocator: %v", err)
			}
		})
	}
}

// A nil handle panics as nil pointers do, though the fault lies in a sequence,
// out of which the kernel takes the thread before it tells the runtime.
func TestNilHandle(t *testing.T) {
	a := sequences(t, Options{})
	c := newCache(t, a, "nil", 64, CacheOptions{})
	obj := c.Alloc()
	defer c.Free(obj)
	var none *Cache
	for what, f := range map[string]func(){
		"Alloc": func() { none.Alloc() },
		"Free":  func() { none.Free(obj) },
	} {
		t.Run(what, func(t *testing.T) { mustPanic(t, f, "nil pointer dereference") })
	}
}

// What other CPUs keep cannot be had while fences fail. At the limit a typesafe-by-RCU
// cache then returns nil, though it has free objects.
func TestFenceFailsAtLimit(t *testing.T) {
	first, second := twoCPUs(t)
	a := sequences(t, Options{})
	c := newCache(t, a, "fence", 64, typesafe)
	a.SetMemoryLimit(64 << 10)
	all := 0
	pinned(t, first, func() {
		objs := fill(c)
		all = len(objs)
		freeAll(c, objs)
	})
	if kept := c.Stats(); kept.CPUSlabs == 0 {
		t.Fatalf("the CPU keeps no slab: %+v", kept)
	}
	rseq.FailFences(true)
	defer rseq.FailFences(false)
	var objs []unsafe.Pointer
	within("Alloc while fences fail", func() { pinned(t, second, func() { objs = fill(c) }) })
	if len(objs) == 0 || len(objs) == all {
		t.Errorf("%d objects of %d while fences fail; want some", len(objs), all)
	}
	rseq.FailFences(false)
	soon("all objects", func() bool { // a flush may have made slabs wait for a grace period
		objs = append(objs, fill(c)...)
		return len(objs) == all
	})
	checkRest(t, c, objs)
	freeAll(c, objs)
}
