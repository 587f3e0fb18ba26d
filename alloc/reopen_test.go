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
			for _, d := range []*Cache{c, other} {
				for _, n := range cpus {
					pinned(t, n, func() {
						d.Free(d.Alloc()) // it may have been empty
						allocs, frees := d.Events(AllocFastpath)[n], d.Events(FreeFastpath)[n]
						for range 10 {
							d.Free(d.Alloc())
						}
						allocs, frees = d.Events(AllocFastpath)[n]-allocs, d.Events(FreeFastpath)[n]-frees
						if allocs < 9 || frees < 9 { // a sequence may be started over
							t.Errorf("%s: of 10 pairs on CPU %d, %d Allocs and %d Frees were fast for %q", op.name, n, allocs, frees, d.Name())
						}
					})
				}
			}
		}
		c.Free(live)
		checkRest(t, c, nil)
		checkRest(t, other, nil)
	})
}
