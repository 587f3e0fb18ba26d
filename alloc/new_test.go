package alloc

import (
	"errors"
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
