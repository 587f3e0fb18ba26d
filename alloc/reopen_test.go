package alloc

import (
	"context"
	"errors"
	"testing"
)

// After each thing that closes sheaves, and also after a destroy, a Close or a
// limit that changed nothing, the sheaves of all CPUs are open as before: Alloc
// and Free are as fast as they were, on each of them.
func TestSheavesReopen(t *testing.T) {
	first, second := twoCPUs(t)
	cpus := []int{first, second}
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "busy", 64, CacheOptions{ShellDelete: true})
		other := newCache(t, a, "other", 64, CacheOptions{}) // which Close shuts down beside it
		mustBusy := func(err error) error {
			if !errors.Is(err, ErrBusy) {
				t.Errorf("%v; want ErrBusy", err)
			}
			return nil
		}
		ctx := context.Background()
		live := c.Alloc()
		for _, op := range []struct {
			name string
			f    func() error
		}{
			{"a destroy that is refused", func() error { return mustBusy(c.Destroy()) }},
			{"a destroy by name that is refused", func() error { return mustBusy(a.DestroyName("busy")) }},
			{"a Close that is refused", func() error { return mustBusy(a.Close()) }},
			{"a flush", func() error { return c.SetCPUPartial(30) }},
			{"a new capacity", func() error { return c.SetSheafCapacity(50) }},
			{"no capacity, and some again", func() error {
				return errors.Join(c.SetSheafCapacity(0), c.SetSheafCapacity(60))
			}},
			{"a shrink", func() error { return c.ShrinkContext(ctx) }},
			{"a clear of events", func() error { return c.ClearEvents(ctx, FreeSlab) }},
			{"an offline and an online", func() error {
				for _, n := range cpus {
					setOnline(t, a, n, false)
					setOnline(t, a, n, true)
				}
				return nil
			}},
		} {
			for _, d := range []*Cache{c, other} {
				for _, n := range cpus {
					pinned(t, n, func() { freeAll(d, allocN(t, d, 20)) }) // half a sheaf at least
				}
			}
			if err := op.f(); err != nil {
				t.Errorf("%s: %v", op.name, err)
			}
			mustBeFast(t, op.name, cpus, c, other)
		}
		c.Free(live)
		checkRest(t, c, nil)
		checkRest(t, other, nil)
	})
}

// mustBeFast fails unless pairs of Alloc and Free are served by the sheaf, on each CPU.
func mustBeFast(t *testing.T, after string, cpus []int, caches ...*Cache) {
	t.Helper()
	for _, c := range caches {
		for _, n := range cpus {
			pinned(t, n, func() {
				c.Free(c.Alloc()) // it may have been empty
				allocs, frees := c.Events(AllocFastpath)[n], c.Events(FreeFastpath)[n]
				for range 10 {
					c.Free(c.Alloc())
				}
				allocs, frees = c.Events(AllocFastpath)[n]-allocs, c.Events(FreeFastpath)[n]-frees
				if allocs < 9 || frees < 9 { // a sequence may be started over
					t.Errorf("%s: of 10 pairs on CPU %d, %d Allocs and %d Frees were fast for %q", after, n, allocs, frees, c.Name())
				}
			})
		}
	}
}

// A store may still be under way when its cache is dying. Then it changes
// nothing, and above all opens no sheaf: sequences may still know where they lie.
func TestStoresOfDyingCache(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "dying", 64, CacheOptions{})
		freeAll(c, allocN(t, c, 200))
		tree := newTree(t, "A")
		ran := 0
		tree.unlink = func(c *Cache) {
			k := c.core
			if c.Name() != "dying" {
				return
			}
			ctx := context.Background()
			for _, f := range []func() error{
				func() error {
					return k.flushAll(ctx, func() { t.Error("the flush set something") }, func() { t.Error("the flush went on") })
				},
				func() error { return k.shrink(ctx) },
				func() error { n, err := k.clearEvents(ctx, AllocFastpath); ran += int(n); return err },
				func() error { k.empty(); return nil },
			} {
				if err := f(); err != nil {
					t.Error(err)
				}
				for n, pc := range k.cpus {
					if pc == nil {
						continue
					}
					pc.mu.Lock()
					if kept := pc.area.PushBulk(make([]uintptr, 1)); kept > 0 || pc.area.Level() > 0 {
						t.Errorf("the sheaf of a dying cache on CPU %d is open, or holds %d objects", n, pc.area.Level())
					}
					pc.mu.Unlock()
				}
			}
			if ran > 0 {
				t.Errorf("%d events of a dying cache were cleared", ran)
			}
			ran = -1
		}
		defer tree.attach(a)()
		destroy(t, c)
		if ran != -1 {
			t.Error("the tree was not told")
		}
	})
}
