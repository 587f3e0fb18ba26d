package alloc

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"slabfs/internal/pages"
)

// Where the system's page is larger than ours, memory goes back without the content
// of its neighbours, on each of the ways that lead there.
func TestSystemPages(t *testing.T) {
	for _, size := range []int{16 << 10, 64 << 10} {
		t.Run(fmt.Sprint("page=", size), func(t *testing.T) {
			t.Setenv(pageSizeEnv, fmt.Sprint(size))
			if !inChild(t, false) {
				return
			}
			a := newAllocator(t, Options{})
			r := random(t)
			for _, way := range []struct {
				name string
				give func(c *Cache)
			}{
				{"Shrink", func(c *Cache) { c.Shrink() }},
				{"Close of another allocator", func(c *Cache) {
					other, err := New(Options{})
					if err != nil {
						t.Fatal(err)
					}
					if err := other.Close(); err != nil {
						t.Error(err)
					}
				}},
				{"background return", func(*Cache) {
					pages.ReturnIdle(0, 0, 0)
					pages.ReturnIdle(0, 0, 0)
				}},
			} {
				for _, size := range []int{64, 500, 4096, 9000} {
					c := newCache(t, a, "neighbours", size, CacheOptions{})
					c.SetMinPartial(0)
					neighboursKeepContent(t, r, c, func() { way.give(c) })
					if t.Failed() {
						t.Fatalf("after %s with objects of %d bytes", way.name, size)
					}
					destroy(t, c)
				}
			}
		})
	}
}

// neighboursKeepContent frees objects in several patterns by page, calls give, and looks
// at the content of all that are left.
func neighboursKeepContent(t *testing.T, r *rand.Rand, c *Cache, give func()) {
	t.Helper()
	size := c.Stats().ObjectSize
	of := func(obj unsafe.Pointer) pages.Page {
		p, _ := pages.Of(obj)
		return p
	}
	for _, freed := range []func(p pages.Page) bool{
		func(p pages.Page) bool { return p%4 == 0 },
		func(p pages.Page) bool { return p%16 != 5 },
		func(p pages.Page) bool { return p%64 < 37 },
		func(pages.Page) bool { return r.IntN(3) > 0 },
	} {
		objs := allocN(t, c, scaled(8<<20)/size)
		for i, obj := range objs {
			stamp(bytesAt(obj, size), uint64(i)+1)
		}
		picked := make(map[pages.Page]bool)
		var kept []unsafe.Pointer
		var number []uint64
		for i, obj := range objs {
			p := of(obj)
			if _, ok := picked[p]; !ok {
				picked[p] = freed(p)
			}
			if picked[p] {
				c.Free(obj)
				continue
			}
			kept, number = append(kept, obj), append(number, uint64(i)+1)
		}
		flush(t, c)
		give()
		lost := 0
		for i, obj := range kept {
			if !stamped(bytesAt(obj, size), number[i]) {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%d of %d objects lost their content", lost, len(kept))
		}
		checkRest(t, c, kept)
		freeAll(c, kept)
		flush(t, c)
	}
}
