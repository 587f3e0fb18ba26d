//go:build amd64 && !race

package alloc

import (
	"testing"
	"unsafe"
)

// What docs/scaling.md counts: between a goroutine that only allocates and one on another CPU that
// only frees, list_lock is taken once for a whole sheaf on each side, and a pair takes no lock.
func TestLocksPerObject(t *testing.T) {
	first, second := twoCPUs(t)
	a := sequences(t, Options{})
	c := newCache(t, a, "remote", 64, CacheOptions{})
	lists := func() uint64 {
		return sumEvents(c, BarnGet, BarnGetFail, BarnPut, BarnPutFail)
	}
	batch, barn := c.core.sheafMax/2, c.core.barnMax()
	pinned(t, first, func() {
		obj := c.Alloc()
		before := lists()
		for range 10_000 {
			c.Free(obj)
			obj = c.Alloc()
		}
		if n := lists() - before; n > 100 { // a sequence that is started over takes the slow path
			t.Errorf("list_lock was taken %d times for 10,000 pairs", n)
		}
		c.Free(obj)
	})
	for _, flow := range []struct {
		objects int
		path    string
	}{{barn / 2, "through the barn"}, {barn * 4, "through the slabs"}} {
		const rounds = 50
		objs := make([]unsafe.Pointer, flow.objects)
		before := uint64(0)
		for round := range rounds + 2 {
			if round == 2 { // in the first two the slabs are made
				before = lists()
			}
			pinned(t, first, func() { copy(objs, allocN(t, c, len(objs))) })
			pinned(t, second, func() { freeAll(c, objs) })
		}
		got, want := lists()-before, uint64(rounds*flow.objects/batch) // a whole sheaf at a time
		t.Logf("%s: list_lock taken %d times for %d pairs", flow.path, got, rounds*flow.objects)
		if got > want+want/4 {
			t.Errorf("%s: list_lock was taken %d times for %d pairs; want %d", flow.path, got, rounds*flow.objects, want)
		}
	}
	destroy(t, c)
}

func sumEvents(c *Cache, events ...Event) (sum uint64) {
	for _, e := range events {
		for _, n := range c.Events(e) {
			sum += n
		}
	}
	return sum
}
