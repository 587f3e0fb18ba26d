package alloc

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"slabfs/internal/cpu"
	"slabfs/internal/leaktest"
	"slabfs/internal/percpu"
)

// Wherever New runs out of room, it has given back what it had: the next one with
// room for one thing more comes one thing further.
func TestNewFails(t *testing.T) {
	if !inChild(t, false) { // it leaves no room for others
		return
	}
	engines(t, func(t *testing.T, a *Allocator) {
		type place struct {
			percpu.Place
			capacity int
		}
		var needed []place // in the order of New
		take := func(capacity int) error {
			p, err := percpu.NewPlace(capacity)
			if err == nil {
				needed = append(needed, place{p, capacity})
			}
			return err
		}
		if a.engine == RSeq {
			if err := take(0); err != nil { // what counters of readers take
				t.Fatal(err)
			}
		}
		for _, c := range a.kmalloc {
			if err := take(c.core.sheafMax); err != nil {
				t.Fatal(err)
			}
		}
		var filled []place
		fill := func(capacity int) {
			for p, err := percpu.NewPlace(capacity); err == nil; p, err = percpu.NewPlace(capacity) {
				filled = append(filled, place{p, capacity})
			}
		}
		for capacity := percpu.MaxCap; capacity > 0; capacity /= 2 {
			fill(capacity)
		}
		for _, p := range needed { // what was given back before
			fill(p.capacity)
		}
		defer func() {
			for _, p := range filled {
				percpu.FreePlace(p.Place, p.capacity, cpu.Mask{})
			}
		}()
		goroutines := leaktest.Take()
		for n := range needed {
			if b, err := New(Options{Engine: a.engine}); !errors.Is(err, ErrNoMemory) || b != nil {
				t.Fatalf("New with room for %d things of %d = %v; want ErrNoMemory", n, len(needed), err)
			}
			percpu.FreePlace(needed[n].Place, needed[n].capacity, cpu.Mask{})
		}
		for range 2 {
			b, err := New(Options{Engine: a.engine})
			if err != nil {
				t.Fatalf("New with room for all: %v", err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := goroutines.Left(); err != nil {
			t.Error(err)
		}
	})
}

// What sheaves of closed allocators had is there for sheaves of any size: places
// are merged. Once, 8191 caches of one capacity left no room for another one, for
// the rest of the process.
func TestNewAfterManyCaches(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	for _, capacity := range []int{1000, percpu.MaxCap} {
		a := newAllocator(t, Options{})
		var err error
		n := 0
		for ; err == nil; n++ {
			_, err = a.NewCache(fmt.Sprint("c", n), 8, CacheOptions{SheafCapacity: capacity})
		}
		if !errors.Is(err, ErrNoMemory) {
			t.Fatalf("cache %d: %v; want ErrNoMemory", n, err)
		}
		if most := 64 << 20 / percpu.Bytes(capacity); n < most*7/8 {
			t.Errorf("there was room for %d caches of capacity %d; want %d, less an eighth at most", n, capacity, most)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A hundred caches of random capacities that come and go always find room.
func TestCachesOfAnyCapacity(t *testing.T) {
	a := newAllocator(t, Options{})
	r := random(t)
	var live []*Cache
	for i := range scaled(3000) {
		if len(live) == 100 {
			n := r.IntN(len(live))
			destroy(t, live[n])
			live = slices.Delete(live, n, n+1)
		}
		c := newCache(t, a, fmt.Sprint("c", i), 64, CacheOptions{SheafCapacity: 1 + r.IntN(percpu.MaxCap)})
		freeAll(c, allocN(t, c, 2))
		live = append(live, c)
	}
	for _, c := range live {
		destroy(t, c)
	}
}
