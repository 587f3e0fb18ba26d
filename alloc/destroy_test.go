package alloc

import (
	"context"
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

// What the trees are told of caches that come and go, and when.
func TestPublishAndUnlink(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		c := newCache(t, a, "one", 64, CacheOptions{})
		expect(t, trees, "publish one")
		freeAll(c, allocN(t, c, 1000))
		destroy(t, c)
		expect(t, trees, "unlink one")
		if !c.core.released.Load() {
			t.Error("Destroy returned before the release")
		}
		c = newCache(t, a, "one", 8, CacheOptions{})
		d := newCache(t, a, "two", 64, CacheOptions{ShellDelete: true})
		expect(t, trees, "publish one", "publish two")
		if err := a.DestroyName("two"); err != nil {
			t.Error(err)
		}
		destroy(t, c)
		expect(t, trees, "unlink two", "unlink one")
		mustPanic(t, func() { d.Alloc() }, `"two"`)
	})
}

// A name is taken from the moment in which its cache begins to be made until it
// is gone from every tree.
func TestNameIsTaken(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		tried := 0
		try := func(c *Cache) {
			tried++
			if d, err := a.NewCache("name", 8, CacheOptions{}); !errors.Is(err, ErrExist) {
				t.Errorf("NewCache of a name that is taken = %v, %v; want ErrExist", d, err)
			}
			making := !c.dead.Load()
			for _, d := range a.Caches() {
				if d.Name() == "name" {
					t.Errorf("Caches() has a cache that is being made or destroyed (made: %v)", making)
				}
			}
			if err := a.DestroyName("name"); !making && !errors.Is(err, ErrNotExist) {
				t.Errorf("DestroyName of a dying cache: %v; want ErrNotExist", err)
			} else if making && !errors.Is(err, ErrPermission) {
				t.Errorf("DestroyName of a cache that is being made, without ShellDelete: %v; want ErrPermission", err)
			}
			if !making {
				mustPanic(t, func() { c.Alloc() }, `Alloc on cache "name" after its Destroy`)
				mustPanic(t, func() { _ = c.Destroy() }, `Destroy on cache "name" after its Destroy`)
			}
		}
		for _, tree := range trees {
			tree.publish = func(c *Cache) error { try(c); checkUnlocked(a); return nil }
			tree.unlink = func(c *Cache) { try(c); checkUnlocked(a) }
		}
		c := newCache(t, a, "name", 64, CacheOptions{})
		if _, err := a.NewCache("name", 64, CacheOptions{}); !errors.Is(err, ErrExist) {
			t.Errorf("NewCache of a live name: %v; want ErrExist", err)
		}
		destroy(t, c)
		if want := 2 * len(trees); tried != want {
			t.Errorf("%d callbacks; want %d", tried, want)
		}
		expect(t, trees, "publish name", "unlink name")
	})
}

func TestBusy(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		for _, n := range []int{1, 63, 64, 65, 1000} {
			c := newCache(t, a, "busy", 64, CacheOptions{ShellDelete: true})
			expect(t, trees, "publish busy")
			objs := allocN(t, c, n+300)
			freeAll(c, objs[n:]) // they lie on sheaves, in the barn, in slabs
			objs = objs[:n]
			for i, op := range []func() error{c.Destroy, func() error { return a.DestroyName("busy") }, c.Destroy} {
				err := op()
				if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf(`"busy": %d objects are in use`, n)) {
					t.Errorf("destroy with %d live objects: %v", n, err)
				}
				checkRest(t, c, objs)
				checkUnlocked(a)
				c.Free(c.Alloc())
				if c.Stats().Cached == 0 {
					t.Error("the sheaves are closed after ErrBusy")
				}
				objs = append(objs, allocN(t, c, 100)...) // it works on
				checkRest(t, c, objs)
				if i == 1 {
					c.FreeBulk(objs[n:])
				} else {
					freeAll(c, objs[n:])
				}
				objs = objs[:n]
				c.Shrink()
				checkRest(t, c, objs)
			}
			freeAll(c, objs)
			expect(t, trees)
			destroy(t, c)
			expect(t, trees, "unlink busy")
		}
	})
}

// The number that ErrBusy tells is exact while others shrink, which gives slabs back.
func TestBusyAgainstShrink(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "busy", 64, CacheOptions{})
	keep := c.Alloc()
	stop := make(chan struct{})
	wait := disturb(stop, func(*rand.Rand) { c.Shrink() }, func(*rand.Rand) { a.emptyCores(nil, true) })
	within("destroy against shrink", func() {
		for range scaled(500) {
			c.SetMinPartial(1000)
			freeAll(c, allocN(t, c, 3000))
			c.SetMinPartial(0)
			if err := c.Destroy(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), " 1 objects ") {
				t.Errorf("Destroy with one live object: %v", err)
				break
			}
		}
		close(stop)
		wait()
	})
	checkRest(t, c, []unsafe.Pointer{keep})
	c.Free(keep)
}

func TestDestroyName(t *testing.T) {
	a := newAllocator(t, Options{})
	newCache(t, a, "kept", 8, CacheOptions{})
	newCache(t, a, "shell", 8, CacheOptions{ShellDelete: true})
	for _, tc := range []struct {
		name string
		want error
	}{
		{"shell", nil}, {"shell", ErrNotExist}, {"kept", ErrPermission}, {"kmalloc-8", ErrPermission}, {"", ErrNotExist}, {"none", ErrNotExist},
	} {
		if err := a.DestroyName(tc.name); !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), fmt.Sprintf("destroy cache %q: ", tc.name)) {
			t.Errorf("DestroyName(%q) = %v; want %v", tc.name, err, tc.want)
		}
	}
}

// Every use of a destroyed cache panics with its name, or does nothing where a
// file may still call it.
func TestUseAfterDestroy(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, _ []*fakeTree) {
		c := newCache(t, a, "gone", 64, CacheOptions{})
		stale := c.Alloc()
		c.Free(stale)
		destroy(t, c)
		young := newCache(t, a, "young", 64, CacheOptions{}) // has the pages and the sheaves of the old one
		objs := allocN(t, young, 100)
		for op, f := range map[string]func(){ // the operation's first word is in the message
			"Alloc":         func() { c.Alloc() },
			"AllocZeroed":   func() { c.AllocZeroed() },
			"AllocBulk":     func() { c.AllocBulk(make([]unsafe.Pointer, 3)) },
			"Free":          func() { c.Free(stale) },
			"Free foreign":  func() { c.Free(objs[0]) },
			"FreeBulk":      func() { c.FreeBulk([]unsafe.Pointer{stale}) },
			"Shrink":        c.Shrink,
			"SetCPUPartial": func() { _ = c.SetCPUPartial(1) },
			"Destroy":       func() { _ = c.Destroy() },

			"SetMinPartial":            func() { c.SetMinPartial(1) },
			"SetSheafCapacity":         func() { _ = c.SetSheafCapacity(1) },
			"SetRemoteNodeDefragRatio": func() { _ = c.SetRemoteNodeDefragRatio(1) },
			"ShrinkContext":            func() { _ = c.ShrinkContext(t.Context()) },
			"SetCPUPartialContext":     func() { _ = c.SetCPUPartialContext(t.Context(), 1) },
			"SetSheafCapacityContext":  func() { _ = c.SetSheafCapacityContext(t.Context(), 1) },
			"ClearEvents":              func() { _ = c.ClearEvents(t.Context(), AllocSlab) },
		} {
			t.Run(op, func(t *testing.T) { mustPanic(t, f, strings.Fields(op)[0][:4], `on cache "gone" after its Destroy`) })
			checkUnlocked(a)
		}
		// A show or store that a tree failed to drain does no harm either, and is counted.
		if n := a.Misuse(); n != 0 {
			t.Errorf("%d uses of a released cache counted for calls that panic; want 0", n)
		}
		endStore := lockdep.Callback(c)
		if err := c.ShrinkContext(context.Background()); err != nil {
			t.Error(err)
		}
		if err := c.SetCPUPartialContext(context.Background(), 5); err != nil {
			t.Error(err)
		}
		endStore()
		if n := a.misuse.Swap(0); n != 2 {
			t.Errorf("%d uses of a released cache counted; want 2", n)
		}
		s := c.Stats()
		if s.Slabs+s.Objects+s.TotalObjects+s.Cached+s.CPUSlabs+s.Partial != 0 || s.ObjectSize != 64 {
			t.Errorf("Stats of a destroyed cache: %+v", s)
		}
		checkRest(t, young, objs)
		freeAll(young, objs)
	})
}

// The files of a cache may be used until its unlink has returned: on a dying
// cache they do nothing.
func TestFilesOfDyingCache(t *testing.T) {
	a, log := recordingAllocator(t, Options{})
	tree := newTree(t, "A")
	used := 0
	tree.unlink = func(c *Cache) {
		used++
		within("files of a dying cache", func() {
			if err := c.SetCPUPartialContext(context.Background(), 7); err != nil {
				t.Error(err)
			}
			if err := c.ShrinkContext(context.Background()); err != nil {
				t.Error(err)
			}
			c.SetMinPartial(3)
			if s := c.Stats(); s.Objects != 0 || s.Slabs != 0 {
				t.Errorf("Stats of a dying cache: %+v", s)
			}
		})
	}
	defer tree.attach(a)()
	c := newCache(t, a, "dying", 64, CacheOptions{})
	freeAll(c, allocN(t, c, 1000))
	destroy(t, c)
	if used != 1 || a.Misuse() != 0 {
		t.Errorf("%d unlinks, %d uses of a released cache; want 1, 0", used, a.Misuse())
	}
	c.CheckReleased()
	if a.misuse.Swap(0) != 1 || len(log.take()) != 1 {
		t.Error("a use of a released cache is not counted and logged")
	}
}

// Two goroutines allocate and free while a third destroys the cache: it gets
// ErrBusy or succeeds, and every later call panics with the cache's name. No
// object of another cache is ever touched, though one takes over all that the
// destroyed one had.
func TestDestroyWhileInUse(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		for _, tree := range trees {
			tree.publish, tree.unlink = nil, nil
		}
		r := random(t)
		var destroyed, busy int
		for round := range scaled(400) {
			c := newCache(t, a, "used", 64, CacheOptions{ShellDelete: true})
			l := &ledger{tb: t}
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for range 2 {
				seed := r.Uint64()
				wg.Go(func() { useUntilDestroyed(t, c, l, rand.New(rand.NewPCG(seed, 2))) })
			}
			wait := disturb(stop,
				func(*rand.Rand) {
					defer func() { _ = recover() }() // the cache was destroyed
					c.Shrink()
				},
				func(r *rand.Rand) { // takes pages and areas as soon as they are free
					d, err := a.NewCache("heir", 64, CacheOptions{})
					if err != nil {
						t.Error(err)
						return
					}
					m := &ledger{tb: t}
					var x exchange
					work(d, m, &x, r, 200)
					x.drain(d, m)
					m.check()
					destroy(t, d)
				})
			within("destroy of a cache in use", func() {
				for time.Sleep(time.Duration(round%7) * 50 * time.Microsecond); ; busy++ {
					err := a.DestroyName("used")
					if err == nil {
						break
					}
					if !errors.Is(err, ErrBusy) {
						t.Fatal(err)
					}
					runtime.Gosched()
				}
				destroyed++
				wg.Wait()
				close(stop)
				wait()
			})
			l.check()
		}
		t.Logf("destroyed %d times, busy %d times", destroyed, busy)
	})
}

// useUntilDestroyed allocates and frees until the cache panics, which it must do
// only when it has no object of this goroutine.
func useUntilDestroyed(t *testing.T, c *Cache, l *ledger, r *rand.Rand) {
	var mine []held
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, `on cache "used" after its Destroy`) {
			t.Errorf("panic: %s", got)
		}
		if len(mine) > 0 {
			t.Errorf("destroyed with %d objects of one goroutine", len(mine))
		}
	}()
	got := func(obj unsafe.Pointer) {
		if p, ok := pages.Of(obj); !ok || pages.Owner(p) != c.core.number {
			t.Errorf("object %p belongs to another cache", obj)
		}
		mine = append(mine, held{obj, l.got(obj, 64)})
	}
	for {
		if n := 1 + r.IntN(20); r.IntN(2) == 0 {
			for range n {
				got(c.Alloc())
			}
		} else {
			objs := make([]unsafe.Pointer, n)
			c.AllocBulk(objs)
			for _, obj := range objs {
				got(obj)
			}
		}
		bulk := r.IntN(2) == 0
		var objs []unsafe.Pointer
		for len(mine) > 0 {
			h := mine[len(mine)-1]
			l.gives(h.obj, 64, h.ticket)
			if mine = mine[:len(mine)-1]; bulk {
				objs = append(objs, h.obj)
			} else {
				c.Free(h.obj)
			}
		}
		c.FreeBulk(objs)
		if r.IntN(16) == 0 {
			time.Sleep(10 * time.Microsecond) // with nothing live
		}
	}
}

// All memory of a cache is back when Destroy returns, also what a shrink was
// giving back.
func TestDestroyReturnsMemory(t *testing.T) {
	a := newAllocator(t, Options{})
	for range scaled(100) {
		c := newCache(t, a, "memory", 64, CacheOptions{})
		c.SetMinPartial(1000)
		freeAll(c, allocN(t, c, 30_000))
		done := make(chan error)
		go func() { done <- c.core.shrink(context.Background()) }()
		runtime.Gosched()
		destroy(t, c)
		if used := a.MemoryUsed(); used != 0 {
			t.Errorf("%d bytes in use when Destroy has returned", used)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The builder of a slab finds that the cache was destroyed meanwhile.
func TestDestroyDuringConstruction(t *testing.T) {
	a := newAllocator(t, Options{})
	inside, goOn := make(chan struct{}), make(chan struct{})
	c := newCache(t, a, "built", 64, CacheOptions{Ctor: func(unsafe.Pointer) {
		if inside != nil {
			close(inside)
			inside = nil
			<-goOn
		}
	}})
	started, panicked := inside, make(chan any)
	go func() {
		defer func() { panicked <- recover() }()
		c.Alloc()
	}()
	<-started
	checkUnlocked(a)
	within("destroy during construction", func() { destroy(t, c) }) // waits for no slow path
	heir := newCache(t, a, "heir", 64, CacheOptions{})
	objs := allocN(t, heir, 200)
	close(goOn)
	if got := fmt.Sprint(<-panicked); !strings.Contains(got, `Alloc on cache "built" after its Destroy`) {
		t.Errorf("panic: %s", got)
	}
	checkUnlocked(a)
	checkRest(t, heir, objs)
	freeAll(heir, objs)
	if used := a.MemoryUsed(); used != int64(heir.Stats().Slabs)*pages.Size {
		t.Errorf("%d bytes in use; the builder's slab was not given back", used)
	}
}

// Creates and destroys of one name race: each create finds the name free or
// gets ErrExist, and no tree ever shows two.
func TestCreateAgainstDestroy(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		for _, tree := range trees {
			tree.publish, tree.unlink = func(*Cache) error { runtime.Gosched(); return nil }, func(*Cache) { runtime.Gosched() }
		}
		var made, refused, live atomic.Int64
		within("create against destroy", func() {
			var wg sync.WaitGroup
			for g := range 5 {
				wg.Go(func() {
					for i := range scaled(1500) {
						c, err := a.NewCache("same", 8<<(g%3), CacheOptions{ShellDelete: true})
						if errors.Is(err, ErrExist) {
							refused.Add(1)
							runtime.Gosched()
							continue
						} else if err != nil {
							t.Error(err)
							return
						}
						if n := live.Add(1); n != 1 {
							t.Errorf("%d caches of one name", n)
						}
						made.Add(1)
						obj := c.Alloc()
						if _, err := a.NewCache("same", 8, CacheOptions{}); !errors.Is(err, ErrExist) {
							t.Errorf("NewCache of a live name: %v", err)
						}
						c.Free(obj)
						live.Add(-1)
						if i%2 == 0 {
							err = c.Destroy()
						} else {
							err = a.DestroyName("same")
						}
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
		if made.Load() == 0 || refused.Load() == 0 {
			t.Errorf("%d made, %d refused: there was no race", made.Load(), refused.Load())
		}
		for _, tree := range trees {
			if n := len(tree.take()); n != 2*int(made.Load()) {
				t.Errorf("tree %s was told %d things of %d caches", tree.label, n, made.Load())
			}
		}
	})
}

// Several goroutines destroy the same handle: one does, the others panic.
func TestDestroyByMany(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		for range scaled(50) {
			c := newCache(t, a, "many", 8, CacheOptions{})
			var wg sync.WaitGroup
			var did, panicked atomic.Int32
			for range 4 {
				wg.Go(func() {
					defer func() {
						if recover() != nil {
							panicked.Add(1)
						}
					}()
					destroy(t, c)
					did.Add(1)
				})
			}
			within("destroy by many", wg.Wait)
			if did.Load() != 1 || panicked.Load() != 3 {
				t.Fatalf("%d destroyed it, %d panicked; want 1, 3", did.Load(), panicked.Load())
			}
			expect(t, trees, "publish many", "unlink many")
		}
	})
}

// A Publisher that does not return from Unlink holds up nobody but its destroy:
// not other caches, not with a hotplug writer in the queue.
func TestBlockedUnlink(t *testing.T) {
	a := newAllocator(t, Options{})
	blocked, goOn := make(chan struct{}), make(chan struct{})
	tree := newTree(t, "A")
	var stuck *Cache
	tree.unlink = func(c *Cache) {
		if c == stuck {
			close(blocked)
			<-goOn
		}
	}
	defer tree.attach(a)()
	stuck = newCache(t, a, "stuck", 64, CacheOptions{})
	other := newCache(t, a, "other", 64, CacheOptions{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		destroy(t, stuck)
	}()
	<-blocked
	within("a destroy waits in Unlink", func() {
		for range 20 {
			go func() { a.Hotplug().Lock(); a.Hotplug().Unlock() }()
			objs := allocN(t, other, 200)
			flush(t, other)
			freeAll(other, objs)
			other.Shrink()
			c := newCache(t, a, "passing", 64, CacheOptions{})
			freeAll(c, allocN(t, c, 100))
			destroy(t, c)
			a.FreeBytes(a.Bytes(9000))
			if _, err := a.NewCache("stuck", 8, CacheOptions{}); !errors.Is(err, ErrExist) {
				t.Errorf("NewCache of a name that is being unlinked: %v", err)
			}
			detach := newTree(t, "B").attach(a)
			detach()
		}
	})
	if stuck.core.released.Load() {
		t.Error("released before its unlink has returned")
	}
	close(goOn)
	within("the blocked destroy", func() { <-done })
	c := newCache(t, a, "stuck", 64, CacheOptions{})
	destroy(t, c)
}

// A destroy waits for publishes that are under way, and with no lock held.
func TestDestroyWaitsForPublish(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "published", 64, CacheOptions{ShellDelete: true})
	blocked, goOn := make(chan struct{}), make(chan struct{})
	tree := newTree(t, "A")
	tree.publish = func(c *Cache) error {
		if c.Name() == "published" {
			close(blocked)
			<-goOn
		}
		return nil
	}
	attached := make(chan func())
	go func() { attached <- tree.attach(a) }()
	<-blocked
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.DestroyName("published"); err != nil {
			t.Error(err)
		}
	}()
	for range 50 {
		time.Sleep(100 * time.Microsecond)
		checkUnlocked(a)
	}
	obj := c.Alloc() // it is not destroyed yet
	c.Free(obj)
	select {
	case <-done:
		t.Error("destroyed while it is being published")
	default:
	}
	close(goOn)
	within("destroy after a publish", func() {
		<-done
		defer (<-attached)()
	})
	if tree.shows("published") {
		t.Error("a destroyed cache is shown")
	}
}
