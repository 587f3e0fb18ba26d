package alloc

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

// mustBusy fails unless Close reports each of those and nothing else.
func mustBusy(t *testing.T, a *Allocator, want ...string) {
	t.Helper()
	err := a.Close()
	if !errors.Is(err, ErrBusy) {
		t.Fatalf("Close = %v; want ErrBusy for %q", err, want)
	}
	if got := fmt.Sprintf("close allocator: %s: %v; free them and close again", strings.Join(want, ", "), ErrBusy); err.Error() != got {
		t.Errorf("Close = %q; want %q", err, got)
	}
	checkUnlocked(a)
}

// mustWork uses all that an allocator offers.
func mustWork(t *testing.T, a *Allocator) {
	t.Helper()
	mustWorkBytes(t, a)
	c := newCache(t, a, "work", 64, CacheOptions{})
	freeAll(c, allocN(t, c, 100))
	flush(t, c)
	c.Shrink()
	destroy(t, c)
	detach := newTree(t, "work").attach(a)
	detach()
}

func mustWorkBytes(t *testing.T, a *Allocator) {
	t.Helper()
	for _, n := range []int{0, 8, 16, 32, 64, 96, 128, 192, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 100_000} {
		b := a.Bytes(n)
		if b == nil {
			t.Errorf("Bytes(%d) = nil", n)
		}
		a.FreeBytes(b)
	}
}

func TestCloseEmpty(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "c", 64, CacheOptions{})
	freeAll(c, allocN(t, c, 1000))
	a.FreeBytes(a.Bytes(5))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(a.Caches()); n != 0 {
		t.Errorf("%d caches left", n)
	}
	for op, f := range map[string]func() error{
		"Close":    a.Close,
		"NewCache": func() error { _, err := a.NewCache("d", 8, CacheOptions{}); return err },
	} {
		if err := f(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v; want ErrClosed", op, err)
		}
	}
	mustPanic(t, func() { c.Alloc() }, `"c"`)
	mustPanic(t, func() { a.Bytes(100) }, "after")
	mustPanic(t, func() { a.Bytes(10_000) }, "after")
}

func TestCloseBusy(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, _ []*fakeTree) {
		c := newCache(t, a, "c", 64, CacheOptions{})
		empty := newCache(t, a, "empty", 64, CacheOptions{})
		d := newCache(t, a, "d", 500, CacheOptions{})
		objs, other := allocN(t, c, 7), allocN(t, d, 1)
		small, large := a.Bytes(100), a.Bytes(20_000)
		all := a.Caches()
		mustBusy(t, a, "c (7 objects)", "d (1 objects)", "kmalloc-128 (1 objects)", "20480 bytes in whole pages")
		mustWork(t, a)
		freeAll(c, objs)
		freeAll(d, other)
		mustBusy(t, a, "kmalloc-128 (1 objects)", "20480 bytes in whole pages")
		mustWork(t, a)
		a.FreeBytes(small)
		mustBusy(t, a, "20480 bytes in whole pages")
		if got := a.Caches(); !slices.Equal(got, all) {
			t.Errorf("%d caches after calls of Close that failed; want all %d", len(got), len(all))
		}
		for _, c := range []*Cache{c, empty, d} { // as if nothing had happened
			freeAll(c, allocN(t, c, 100))
		}
		mustWork(t, a)
		a.FreeBytes(large)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		mustPanic(t, func() { c.Alloc() }, `"c"`)
	})
}

// The caches behind Bytes end together or not at all.
func TestCloseEndsBytesAtOnce(t *testing.T) {
	a := newAllocator(t, Options{})
	tree := newTree(t, "A")
	var got []byte
	tree.unlink = func(c *Cache) {
		if c.Name() == "kmalloc-8" {
			defer func() { _ = recover() }()
			got = a.Bytes(100)
		}
	}
	tree.attach(a)
	if err := a.Close(); err != nil || got != nil {
		t.Errorf("Close = %v, and a Bytes while it ended the first class: %v", err, got != nil)
		if got != nil {
			a.FreeBytes(got)
			mustWork(t, a)
		}
	}
}

func TestCloseInCallback(t *testing.T) {
	a := newAllocator(t, Options{})
	leave := lockdep.Callback()
	if err := a.Close(); !errors.Is(err, ErrCallback) {
		t.Errorf("Close inside a callback: %v; want ErrCallback", err)
	}
	leave()
	tree := newTree(t, "A")
	tree.publish = func(*Cache) error {
		if err := a.Close(); !errors.Is(err, ErrCallback) {
			t.Errorf("Close inside a publish: %v; want ErrCallback", err)
		}
		return nil
	}
	defer tree.attach(a)()
	mustWork(t, a)
}

// Close while others create and close: a Close that fails refuses nobody.
func TestCloseAgainstCreates(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		for _, tree := range trees {
			tree.publish, tree.unlink = nil, nil
		}
		var wg sync.WaitGroup
		keep := a.Bytes(10) // until it is freed no Close succeeds
		stop := make(chan struct{})
		var closing atomic.Bool // from here on a Close may succeed
		wg.Go(func() {
			for !closing.Load() {
				if err := a.Close(); !errors.Is(err, ErrBusy) && !closing.Load() {
					t.Errorf("another Close with live bytes: %v", err)
				}
				runtime.Gosched()
			}
		})
		for g := range 3 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					name := fmt.Sprintf("c%d.%d", g, i%5)
					may := closing.Load()
					c, err := a.NewCache(name, 64, CacheOptions{})
					switch {
					case errors.Is(err, ErrClosed) && (may || closing.Load()):
						runtime.Gosched()
						continue
					case err != nil:
						t.Error(err)
						return
					}
					useWhileClosing(t, a, c)
					destroyWhileClosing(t, c)
					runtime.Gosched()
				}
			})
		}
		within("close against creates", func() {
			for range scaled(100) {
				if err := a.Close(); !errors.Is(err, ErrBusy) {
					t.Errorf("Close with live bytes: %v", err)
				}
				time.Sleep(20 * time.Microsecond)
			}
			closing.Store(true)
			a.FreeBytes(keep)
			soon("Close", func() bool {
				err := a.Close()
				if err != nil && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrClosed) {
					t.Errorf("Close: %v", err)
				}
				return err == nil || errors.Is(err, ErrClosed) // the other one's
			})
			close(stop)
			wg.Wait()
		})
		if n := len(a.Caches()); n != 0 {
			t.Errorf("%d caches after Close", n)
		}
	})
}

// destroyWhileClosing destroys a cache, unless Close has.
func destroyWhileClosing(t *testing.T, c *Cache) {
	defer func() {
		if got := recover(); got != nil && !strings.Contains(fmt.Sprint(got), "after its Destroy") {
			t.Errorf("panic: %v", got)
		}
	}()
	if err := c.Destroy(); err != nil {
		t.Errorf("destroy: %v", err)
	}
}

// useWhileClosing uses a cache that Close may destroy whenever it is empty.
func useWhileClosing(t *testing.T, a *Allocator, c *Cache) {
	live := false
	defer func() {
		if got := recover(); got != nil && (live || !strings.Contains(fmt.Sprint(got), "after its Destroy")) {
			t.Errorf("panic: %v, with a live object: %v", got, live)
		}
	}()
	for range 20 {
		obj := c.Alloc()
		live = true
		if p, ok := pages.Of(obj); !ok || pages.Owner(p) != c.core.number {
			t.Errorf("object %p belongs to another cache", obj)
		}
		stamp(bytesAt(obj, 64), uint64(uintptr(obj)))
		if d := a.Caches(); len(d) == 0 {
			t.Error("no caches, while an object is live")
		}
		if !stamped(bytesAt(obj, 64), uint64(uintptr(obj))) {
			t.Error("an object was overwritten")
		}
		c.Free(obj)
		live = false
	}
}

// Close waits for a destroy that is under way.
func TestCloseWaitsForDestroy(t *testing.T) {
	a := newAllocator(t, Options{})
	tree := newTree(t, "A")
	blocked, goOn := make(chan struct{}), make(chan struct{})
	tree.unlink = func(c *Cache) {
		if c.Name() == "slow" {
			close(blocked)
			<-goOn
		}
	}
	tree.attach(a)
	c := newCache(t, a, "slow", 8, CacheOptions{})
	go func() { _ = c.Destroy() }()
	<-blocked
	closed := make(chan error)
	go func() { closed <- a.Close() }()
	select {
	case err := <-closed:
		t.Errorf("Close = %v during a destroy", err)
	case <-time.After(10 * time.Millisecond):
		close(goOn)
		within("Close", func() {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
	if tree.shows("slow") || !c.core.released.Load() {
		t.Error("Close returned before the destroy")
	}
}

// Allocators do not see each other's caches, limits or ends.
func TestTwoAllocators(t *testing.T) {
	a, b := newAllocator(t, Options{MemoryLimit: 1 << 20}), newAllocator(t, Options{})
	c, d := newCache(t, a, "same", 64, CacheOptions{}), newCache(t, b, "same", 64, CacheOptions{})
	var objs []unsafe.Pointer
	for obj := c.Alloc(); obj != nil; obj = c.Alloc() {
		objs = append(objs, obj)
	}
	more := allocN(t, d, len(objs)+1000)
	mustPanic(t, func() { d.Free(objs[0]) }, `"same"`, "another cache")
	buf := a.Bytes(5)
	if buf == nil {
		c.Free(objs[0])
		objs = objs[1:]
	} else {
		mustPanic(t, func() { b.FreeBytes(buf) }, "another cache")
		a.FreeBytes(buf)
	}
	checkRest(t, c, objs)
	checkRest(t, d, more)
	freeAll(c, objs)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	checkRest(t, d, more)
	freeAll(d, more)
	mustWork(t, b)
}
