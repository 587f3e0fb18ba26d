package alloc

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"slabfs/internal/lockdep"
)

// An attrTree is a Publisher with one attribute for each cache: a store holds
// the active reference while it works, and an unlink drains it.
type attrTree struct {
	mu     lockdep.Mutex
	active map[*Cache]*lockdep.RWSem
	pause  time.Duration // how long an unlink takes before it drains
}

func (t *attrTree) Publish(c *Cache, _ string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[c] = new(lockdep.RWSem)
	return nil
}

func (t *attrTree) Unlink(c *Cache, _ string) {
	t.mu.Lock()
	active := t.active[c]
	delete(t.active, c)
	t.mu.Unlock()
	time.Sleep(t.pause)
	active.Lock()
	active.Unlock()
}

// store runs f with an active reference, or reports false if the cache is gone.
func (t *attrTree) store(c *Cache, f func()) bool {
	t.mu.Lock()
	active := t.active[c]
	if active == nil {
		t.mu.Unlock()
		return false
	}
	active.RLock()
	t.mu.Unlock()
	defer active.RUnlock()
	defer lockdep.Callback(c)() // as sysfs does
	f()
	return true
}

// Destroy, a store and hotplug meet at all relative times: a destroy that drained
// with its locks held would wait for the store, the store for the hotplug writer in the queue,
// and that for the destroy. testing/synctest ends the test at once if all wait.
func TestThreeParties(t *testing.T) {
	if !inChild(t, true) {
		return
	}
	steps := []time.Duration{0, time.Microsecond, 2 * time.Microsecond, 3 * time.Microsecond}
	for _, destroyAt := range steps {
		for _, hotplugAt := range steps {
			for _, storeFor := range steps {
				for _, create := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { threeParties(t, destroyAt, hotplugAt, storeFor, create) })
				}
			}
		}
	}
}

func threeParties(t *testing.T, destroyAt, hotplugAt, storeFor time.Duration, create bool) {
	a := newAllocator(t, Options{})
	tree := &attrTree{active: make(map[*Cache]*lockdep.RWSem), pause: time.Microsecond}
	detach := a.Attach(tree)
	c := newCache(t, a, "parties", 64, CacheOptions{})
	freeAll(c, allocN(t, c, 200))
	var wg sync.WaitGroup
	wg.Go(func() { // the store
		tree.store(c, func() {
			time.Sleep(storeFor)
			if err := c.SetCPUPartialContext(context.Background(), 7); err != nil {
				t.Error(err)
			}
			time.Sleep(storeFor)
			if err := c.ShrinkContext(context.Background()); err != nil {
				t.Error(err)
			}
		})
	})
	wg.Go(func() {
		time.Sleep(destroyAt)
		destroy(t, c)
	})
	wg.Go(func() {
		time.Sleep(hotplugAt)
		a.Hotplug().Lock()
		time.Sleep(time.Microsecond)
		a.Hotplug().Unlock()
	})
	if create {
		wg.Go(func() {
			time.Sleep(hotplugAt)
			d, err := a.NewCache("parties", 64, CacheOptions{})
			if errors.Is(err, ErrExist) {
				return
			} else if err != nil {
				t.Error(err)
				return
			}
			tree.store(d, func() { time.Sleep(storeFor); _ = d.ShrinkContext(context.Background()) })
			destroy(t, d)
		})
	}
	wg.Wait()
	detach()
}

// The same in real time and with many of each.
func TestManyParties(t *testing.T) {
	a := newAllocator(t, Options{})
	tree := &attrTree{active: make(map[*Cache]*lockdep.RWSem)}
	defer a.Attach(tree)()
	var current [3]struct {
		mu lockdep.Mutex
		c  *Cache
	}
	for i := range current {
		current[i].c = newCache(t, a, "many"+string(rune('0'+i)), 64, CacheOptions{})
	}
	stop := make(chan struct{})
	var stored, switched atomic.Int64
	var wg sync.WaitGroup
	for s := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				slot := &current[s%3]
				slot.mu.Lock()
				c := slot.c
				slot.mu.Unlock()
				if tree.store(c, func() {
					if err := c.SetCPUPartialContext(context.Background(), uint(s)); err != nil {
						t.Error(err)
					}
				}) {
					stored.Add(1)
				}
				runtime.Gosched()
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				a.Hotplug().Lock()
				switched.Add(1)
				a.Hotplug().Unlock()
				time.Sleep(20 * time.Microsecond) // a writer that comes back at once lets no reader in
			}
		}
	})
	within("stores, destroys and hotplug", func() {
		for i := 0; i < scaled(1000) || stored.Load() == 0 || switched.Load() == 0; i++ {
			slot := &current[i%3]
			destroy(t, slot.c)
			c := newCache(t, a, slot.c.Name(), 64, CacheOptions{})
			c.Free(c.Alloc())
			slot.mu.Lock()
			slot.c = c
			slot.mu.Unlock()
		}
		close(stop)
		wg.Wait()
	})
	if a.Misuse() != 0 {
		t.Errorf("%d uses of released caches, in %d stores and %d times hotplug", a.Misuse(), stored.Load(), switched.Load())
	}
}

// While the hotplug lock is written no cache comes, goes or is flushed; what
// touches one CPU only goes on.
func TestHotplugHoldsBack(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "stays", 64, CacheOptions{})
	d := newCache(t, a, "goes", 64, CacheOptions{})
	freeAll(c, allocN(t, c, 10)) // or a reclaim would leave it alone
	var done atomic.Int32
	var wg sync.WaitGroup
	ops := []func(){
		func() { newCache(t, a, "comes", 64, CacheOptions{}) },
		func() { destroy(t, d) },
		func() { flush(t, c) },
		func() { c.Shrink() },
		func() { a.reclaim(a.newAttempt(), nil) },
	}
	a.Hotplug().Lock()
	for _, op := range ops {
		wg.Go(func() { op(); done.Add(1) })
	}
	within("allocation while the hotplug lock is written", func() { freeAll(c, allocN(t, c, 1000)) })
	time.Sleep(5 * time.Millisecond)
	if n := done.Load(); n != 0 {
		t.Errorf("%d of %d operations did not wait for the hotplug lock", n, len(ops))
	}
	a.Hotplug().Unlock()
	within("operations after hotplug", wg.Wait)
}

// A flush leaves the sheaves open.
func TestFlushReopens(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "reopened", 64, CacheOptions{})
	for range 3 {
		freeAll(c, allocN(t, c, 20))
		if c.Stats().Cached == 0 {
			t.Error("nothing is kept on sheaves")
		}
		flush(t, c)
		if n := c.Stats().Cached; n != 0 {
			t.Errorf("%d objects on sheaves after a flush", n)
		}
		c.Shrink()
	}
}

// elsewhere runs f on a goroutine that holds no lock.
func elsewhere(f func() error) error {
	ended := make(chan error)
	go func() { ended <- f() }()
	return <-ended
}

// Waits for the locks of a flush end with the context, and nothing has happened.
func TestContext(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "context", 64, CacheOptions{})
	freeAll(c, allocN(t, c, 100))
	before, cached := c.CPUPartial(), c.Stats().Cached
	frees := sum(c.Events(FreeFastpath))
	for name, lock := range map[string]*lockdep.RWSem{"flush_lock": &a.flushLock} {
		lock.Lock()
		for op, f := range map[string]func(context.Context) error{
			"SetCPUPartial":    func(ctx context.Context) error { return c.SetCPUPartialContext(ctx, 3) },
			"Shrink":           c.ShrinkContext,
			"SetSheafCapacity": func(ctx context.Context) error { return c.SetSheafCapacityContext(ctx, 3) },
			"ClearEvents":      func(ctx context.Context) error { return c.ClearEvents(ctx, FreeFastpath) },
		} {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Millisecond, cancel)
			within(op, func() {
				if err := elsewhere(func() error { return f(ctx) }); !errors.Is(err, context.Canceled) {
					t.Errorf("%s while %s is held: %v; want context.Canceled", op, name, err)
				}
			})
		}
		lock.Unlock()
	}
	a.Hotplug().Lock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	within("Shrink", func() {
		if err := elsewhere(func() error { return c.ShrinkContext(ctx) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shrink while the hotplug lock is written: %v; want context.DeadlineExceeded", err)
		}
	})
	a.Hotplug().Unlock()
	if c.CPUPartial() != before || c.Stats().Cached != cached {
		t.Errorf("cpu_partial is %d and %d objects are cached; want %d and %d as before", c.CPUPartial(), c.Stats().Cached, before, cached)
	}
	if c.SheafCapacity() != 60 || frees == 0 || sum(c.Events(FreeFastpath)) != frees {
		t.Errorf("sheaf_capacity is %d, free_fastpath %d; want 60, %d as before", c.SheafCapacity(), c.Events(FreeFastpath), frees)
	}
	checkUnlocked(a)
}

// CheckLocks is for the process, and so for a process of its own.
func TestCheckLocks(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	for _, check := range []bool{false, true, false} {
		was := lockdep.Enabled()
		a := newAllocator(t, Options{CheckLocks: check})
		if got := lockdep.Enabled(); got != (was || check) {
			t.Errorf("with CheckLocks %v after %v the order is checked: %v", check, was, got)
		}
		c := newCache(t, a, "checked", 64, CacheOptions{})
		freeAll(c, allocN(t, c, 200))
		flush(t, c)
		destroy(t, c)
	}
	if n := lockdep.Violations(); n != 0 {
		t.Errorf("%d violations", n)
	}
}
