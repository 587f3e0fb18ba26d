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
	"unsafe"

	"slabfs/internal/lockdep"
	"slabfs/workqueue"
)

// kinds are the caches whose memory comes back in different ways.
var kinds = []struct {
	name  string
	flags Flags
}{
	{"plain", 0},
	{"typesafe by RCU", TypesafeByRCU},
}

// eachKind runs f for each kind of cache, with a tree and with one cache beside those of
// f, which has objects: they are what they were when f returns.
func eachKind(t *testing.T, f func(t *testing.T, a *Allocator, tree *fakeTree, o CacheOptions)) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			a := newAllocator(t, Options{})
			tree := newTree(t, "A")
			defer tree.attach(a)()
			other := newCache(t, a, "other", 64, CacheOptions{})
			tree.take()
			objs := allocN(t, other, 300)
			for i, obj := range objs {
				stamp(bytesAt(obj, 64), uint64(i))
			}
			f(t, a, tree, CacheOptions{Flags: kind.flags, ShellDelete: true})
			checkUnlocked(a)
			checkRest(t, other, objs)
			for i, obj := range objs {
				if !stamped(bytesAt(obj, 64), uint64(i)) {
					t.Errorf("object %d of another cache was overwritten", i)
				}
			}
			tree.checkShows(a)
			freeAll(other, objs)
		})
	}
}

// What would wait for its caller returns ErrCallback, and changes nothing.
func TestDestroyInCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, a *Allocator, tree *fakeTree, o CacheOptions) {
		refused := 0
		refuse := func(c *Cache) {
			for op, destroy := range map[string]func() error{
				"Destroy":     c.Destroy,
				"DestroyName": func() error { return a.DestroyName(c.name) },
			} {
				refused++
				if err := destroy(); !errors.Is(err, ErrCallback) || !strings.Contains(err.Error(), fmt.Sprintf("destroy cache %q: ", c.name)) {
					t.Errorf("%s in a callback for the cache: %v; want ErrCallback", op, err)
				}
			}
		}
		tree.publish = func(c *Cache) error {
			if c.Name() == "own" {
				refuse(c)
				destroy(t, newCache(t, a, "passing", 64, o)) // another cache may come and go
			}
			return nil
		}
		c := newCache(t, a, "own", 64, o)
		objs := allocN(t, c, 100)
		leave := lockdep.Callback(c)
		refuse(c) // busy or not
		leave()
		freeAll(c, objs)
		leave = lockdep.Callback(c)
		refuse(c)
		destroy(t, newCache(t, a, "passing", 64, o))
		leave()
		if refused != 6 {
			t.Errorf("%d destroys were tried; want 6", refused)
		}
		checkRest(t, c, nil)
		destroy(t, c)
		expect(t, []*fakeTree{tree}, "publish own", "publish passing", "unlink passing", "publish passing", "unlink passing", "unlink own")
	})
}

// Caches are destroyed by their handle, by their name and by Close at the same time:
// each ends once, and who comes late is told so.
func TestDestroyAgainstClose(t *testing.T) {
	eachKind(t, func(t *testing.T, a *Allocator, tree *fakeTree, o CacheOptions) {
		var destroyed, late, refused atomic.Int64
		stop := make(chan struct{})
		actor := func(r *rand.Rand) {
			defer func() {
				if got := recover(); got != nil {
					late.Add(1)
					if !strings.Contains(fmt.Sprint(got), "after its Destroy") {
						t.Errorf("panic: %v", got)
					}
				}
			}()
			name := fmt.Sprint("c", r.IntN(3))
			c, err := a.NewCache(name, 64, o)
			if err != nil {
				if refused.Add(1); !errors.Is(err, ErrExist) {
					t.Error(err)
				}
				return
			}
			if r.IntN(2) == 0 {
				c.Free(c.Alloc())
			}
			if r.IntN(2) == 0 {
				err = c.Destroy()
			} else if err = a.DestroyName(name); errors.Is(err, ErrNotExist) {
				late.Add(1)
				return
			}
			if err != nil && !errors.Is(err, ErrBusy) { // busy: another's, of the same name
				t.Error(err)
			}
			destroyed.Add(1)
		}
		wait := disturb(stop, actor, actor, actor, func(*rand.Rand) { a.Hotplug().Lock(); a.Hotplug().Unlock() })
		within("destroys against Close", func() {
			for destroyed.Load() < int64(scaled(500)) {
				if err := a.Close(); !errors.Is(err, ErrBusy) { // the objects of another cache
					t.Errorf("Close = %v; want ErrBusy", err)
					break
				}
				runtime.Gosched()
			}
			close(stop)
			wait()
		})
		for _, c := range a.Caches() {
			if strings.HasPrefix(c.Name(), "c") {
				destroy(t, c)
			}
		}
		if n := late.Load(); n > 0 {
			t.Errorf("calls of Close that failed destroyed %d caches", n)
		}
		t.Logf("%d destroyed, %d late, %d creates refused", destroyed.Load(), late.Load(), refused.Load())
		tree.take()
	})
}

// As long as one object is live Destroy returns ErrBusy, whatever else happens to the
// cache, and nothing is lost.
func TestBusyUnderLoad(t *testing.T) {
	eachKind(t, func(t *testing.T, a *Allocator, tree *fakeTree, o CacheOptions) {
		c := newCache(t, a, "busy", 64, o)
		kept := allocN(t, c, 10)
		l := &ledger{tb: t}
		var x exchange
		stop := make(chan struct{})
		worker := func(r *rand.Rand) { work(c, l, &x, r, 100) }
		wait := disturb(stop, worker, worker,
			func(*rand.Rand) { c.Shrink() },
			func(*rand.Rand) { a.emptyCores(nil, true) },
			func(*rand.Rand) { a.Hotplug().Lock(); a.Hotplug().Unlock() })
		within("destroys of a cache at work", func() {
			for i := range scaled(1000) {
				var err error
				if i%2 == 0 {
					err = c.Destroy()
				} else {
					err = a.DestroyName("busy")
				}
				if !errors.Is(err, ErrBusy) {
					t.Errorf("destroy of a cache with live objects: %v; want ErrBusy", err)
					break
				}
				runtime.Gosched()
			}
			close(stop)
			wait()
		})
		x.drain(c, l)
		l.check()
		checkRest(t, c, kept)
		expect(t, []*fakeTree{tree}, "publish busy")
		freeAll(c, kept)
		destroy(t, c)
		expect(t, []*fakeTree{tree}, "unlink busy")
	})
}

// Work items may destroy, several of them the same cache too; who waits for the items
// waits for the destroys.
func TestDestroyInWorkItem(t *testing.T) {
	eachKind(t, func(t *testing.T, a *Allocator, tree *fakeTree, o CacheOptions) {
		q := workqueue.New("destroys", workqueue.Options{MaxActive: 4})
		defer within("the end of the queue", q.Destroy)
		const items = 5
		for round := range scaled(100) {
			c := newCache(t, a, "item", 64, o)
			freeAll(c, allocN(t, c, 200))
			var did, late atomic.Int32
			for range items {
				w := q.NewWork(func() {
					err := a.DestroyName("item")
					switch {
					case err == nil:
						did.Add(1)
					case errors.Is(err, ErrNotExist):
						late.Add(1)
					default:
						t.Error(err)
					}
				})
				if ok, err := w.Queue(); !ok || err != nil {
					t.Fatalf("Queue() = %v, %v", ok, err)
				}
			}
			within("the items", q.Flush)
			if did.Load() != 1 || late.Load() != items-1 {
				t.Errorf("round %d: %d items destroyed the cache, %d came late; want 1, %d", round, did.Load(), late.Load(), items-1)
			}
			expect(t, []*fakeTree{tree}, "publish item", "unlink item")
			mustPanic(t, func() { c.Alloc() }, `Alloc on cache "item" after its Destroy`)
		}
	})
}

// A constructor may destroy its own cache: the Alloc that called it panics.
func TestDestroyInConstructor(t *testing.T) {
	eachKind(t, func(t *testing.T, a *Allocator, tree *fakeTree, o CacheOptions) {
		var c *Cache
		n := 0
		o.Ctor = func(unsafe.Pointer) {
			if n++; n == 10 {
				destroy(t, c)
			}
		}
		before := a.MemoryUsed()
		c = newCache(t, a, "own", 64, o)
		mustPanic(t, func() { c.Alloc() }, `Alloc on cache "own" after its Destroy`)
		soon("all memory is back", func() bool { return a.MemoryUsed() == before }) // after a grace period, if there is to be one
		expect(t, []*fakeTree{tree}, "publish own", "unlink own")
	})
}

// Constructors panic, and end their goroutines, while others allocate, flush, shrink
// and at last destroy the cache. What does not panic works, and no slab is lost.
func TestConstructorPanicsUnderLoad(t *testing.T) {
	eachKind(t, func(t *testing.T, a *Allocator, tree *fakeTree, o CacheOptions) {
		before := a.MemoryUsed()
		var calls atomic.Int64
		o.Ctor = func(unsafe.Pointer) {
			switch n := calls.Add(1); {
			case n%1000 == 999:
				runtime.Goexit()
			case n%300 == 299:
				panic("constructor")
			}
		}
		c := newCache(t, a, "ctor", 64, o)
		c.SetMinPartial(0)
		stop := make(chan struct{})
		var panics, ends, got atomic.Int64
		worker := func(r *rand.Rand) {
			var objs []unsafe.Pointer
			var wg sync.WaitGroup
			wg.Go(func() { // a constructor may end it
				returned := false
				defer func() {
					switch r := recover(); {
					case r == "constructor":
						panics.Add(1)
					case r != nil:
						t.Errorf("panic: %v", r)
					case !returned:
						ends.Add(1)
					}
				}()
				for range 100 {
					objs = append(objs, c.Alloc())
				}
				bulk := make([]unsafe.Pointer, 50)
				if returned = c.AllocBulk(bulk); returned {
					objs = append(objs, bulk...)
				}
			})
			wg.Wait()
			got.Add(int64(len(objs)))
			freeAll(c, objs)
		}
		wait := disturb(stop, worker, worker, worker,
			func(*rand.Rand) { c.Shrink() },
			func(*rand.Rand) { _ = c.SetCPUPartialContext(context.Background(), 30) })
		within("constructors that panic", func() {
			for calls.Load() < int64(scaled(200_000)) || panics.Load() == 0 || ends.Load() == 0 {
				runtime.Gosched()
			}
			close(stop)
			wait()
		})
		t.Logf("%d objects, %d panics, %d goroutines ended", got.Load(), panics.Load(), ends.Load())
		checkRest(t, c, nil)
		destroy(t, c)
		soon("all memory is back", func() bool { return a.MemoryUsed() == before }) // after a grace period, if there is to be one
		tree.take()
	})
}
