package alloc

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

func TestBytes(t *testing.T) {
	a := newAllocator(t, Options{})
	var all [][]byte
	for _, tc := range []struct{ n, capacity int }{
		{0, 8}, {1, 8}, {8, 8}, {9, 16}, {33, 64}, {64, 64}, {65, 96}, {96, 96}, {97, 128}, {128, 128}, {129, 192}, {193, 256},
		{257, 512}, {1000, 1 << 10}, {1025, 2 << 10}, {4097, 8 << 10}, {8 << 10, 8 << 10}, {8<<10 + 1, 12 << 10},
		{12 << 10, 12 << 10}, {1 << 20, 1 << 20}, {4 << 20, 4 << 20}, {4<<20 + 1, 4<<20 + 4096}, {9 << 20, 9 << 20},
	} {
		b := a.Bytes(tc.n)
		if b == nil || len(b) != tc.n || cap(b) != tc.capacity {
			t.Errorf("Bytes(%d) has length %d and capacity %d, nil: %v; want capacity %d", tc.n, len(b), cap(b), b == nil, tc.capacity)
		}
		stamp(b[:cap(b)], uint64(tc.n))
		all = append(all, b)
	}
	for i, b := range all {
		if !stamped(b[:cap(b)], uint64(len(b))) {
			t.Errorf("Bytes(%d) was overwritten", len(b))
		}
		a.FreeBytes(b[:i%(len(b)+1)]) // its length does not matter
	}
	a.FreeBytes(nil)
	for _, c := range a.kmalloc {
		checkRest(t, c, nil)
		c.Shrink()
	}
	if used := a.MemoryUsed(); used != 0 {
		t.Errorf("%d bytes in use when all are free", used)
	}
}

func TestBytesOfImpossibleSize(t *testing.T) {
	for _, limit := range []int64{0, 1 << 20, math.MaxInt64} {
		a := newAllocator(t, Options{MemoryLimit: limit})
		for _, n := range []int{math.MaxInt, math.MaxInt - 4095, math.MaxInt - 8192, math.MaxInt/2 + 1, math.MaxInt >> 13} {
			if b := a.Bytes(n); b != nil {
				t.Errorf("Bytes(%d) = %d bytes", n, len(b))
			}
		}
		a.FreeBytes(a.Bytes(0)) // so that the smallest class has some at hand
		mustPanic(t, func() { a.Bytes(-1) }, "Bytes(-1): negative size")
		mustPanic(t, func() { a.Bytes(math.MinInt) }, "negative size")
		a.kmalloc[0].Shrink()
		if used := a.MemoryUsed(); used != 0 {
			t.Errorf("%d bytes in use", used)
		}
		mustWork(t, a)
	}
}

// FreeBytes takes back what Bytes returned and nothing else, and says why.
func TestFreeBytesRefuses(t *testing.T) {
	a, b := newAllocator(t, Options{}), newAllocator(t, Options{})
	c := newCache(t, a, "c", 64, CacheOptions{})
	obj := c.Alloc()
	small, large, foreign, foreignLarge := a.Bytes(100), a.Bytes(40_000), b.Bytes(100), b.Bytes(40_000)
	freed := a.Bytes(50_000)
	moved := a.Bytes(100)
	a.FreeBytes(freed)
	grown := append(moved[:cap(moved)], 1)
	for _, tc := range []struct {
		name string
		b    []byte
		why  string
	}{
		{"grown by append", grown, "did append move it?"},
		{"grown by append to pages", append(large[:cap(large)], 1), "did append move it"},
		{"of the Go heap", make([]byte, 64), "did append move it?"},
		{"of the Go heap, large", make([]byte, 1<<20), "did append move it"},
		{"empty", []byte{}, "capacity 0"},
		{"cut to capacity 0", small[:0:0], "capacity 0"},
		{"cut at the end", small[:5:20], "was it cut?"},
		{"cut at the end to a class", small[:5:64], "another cache"},
		{"cut in front", small[1:], "was it cut?"},
		{"cut in front to a class", small[64:], "another cache"},
		{"cut in front and at the end to the own class", small[8:16:24], "another cache"},
		{"pages cut at the end", large[: 1<<13 : 1<<14], "was it cut?"},
		{"pages cut at the end to a class", large[: 1<<12 : 1<<12], "whole pages"},
		{"pages cut in front", large[1<<12:], "was it cut?"},
		{"pages cut in front by a byte", large[1:], "was it cut?"},
		{"pages cut in front to a class", large[1<<13 : 1<<13+8 : 1<<14], "whole pages"},
		{"free already, pages", freed, "is it free already?"},
		{"of another allocator", foreign, "another cache"},
		{"of another allocator, pages", foreignLarge, "which Bytes did not return"},
		{"an object of a cache", bytesAt(obj, 64), "another cache"},
		{"objects of a cache", bytesAt(obj, 1<<14), "which Bytes did not return"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mustPanic(t, func() { a.FreeBytes(tc.b) }, "slabfs: FreeBytes of", tc.why)
			checkUnlocked(a)
			mustWork(t, a)
		})
	}
	// A slice into an object of its own class cannot be told by its page.
	pair := a.Bytes(8)
	neighbour := a.Bytes(8)
	if p := address(pair); p+8 == address(neighbour) || p-8 == address(neighbour) {
		low := min(p, address(neighbour))
		mustPanic(t, func() { a.FreeBytes(bytesAt(pointer(low+4), 8)) }, "cut in front")
	}
	a.FreeBytes(pair)
	a.FreeBytes(neighbour)
	c.Free(obj)
	a.FreeBytes(small)
	a.FreeBytes(large)
	a.FreeBytes(moved)
	b.FreeBytes(foreign)
	b.FreeBytes(foreignLarge)
	if invariants.Enabled {
		mustPanic(t, func() { a.FreeBytes(small) }, "free already")
		checkUnlocked(a)
	}
}

// Page runs count against the limit, and go back to the pages at once.
func TestBytesAtLimit(t *testing.T) {
	a := newAllocator(t, Options{MemoryLimit: 1 << 20})
	if b := a.Bytes(1<<20 + 1); b != nil {
		t.Error("Bytes beyond the limit is not nil")
	}
	for range 3 {
		b := a.Bytes(1 << 20)
		if b == nil || a.MemoryUsed() != 1<<20 {
			t.Fatalf("Bytes(limit) is nil: %v, %d bytes used", b == nil, a.MemoryUsed())
		}
		if c := a.Bytes(1); c != nil {
			t.Error("Bytes at the limit is not nil")
		}
		a.FreeBytes(b)
		if a.MemoryUsed() != 0 {
			t.Errorf("%d bytes used after FreeBytes", a.MemoryUsed())
		}
	}
	// What small ones left on sheaves makes room for large ones.
	var small [][]byte
	for b := a.Bytes(64); b != nil; b = a.Bytes(64) {
		small = append(small, b)
	}
	if want := 1 << 20 / 64; len(small) != want {
		t.Errorf("%d times 64 bytes; want %d", len(small), want)
	}
	for _, b := range small {
		a.FreeBytes(b)
	}
	b := a.Bytes(1<<20 - pages.Size)
	if b == nil {
		t.Error("Bytes is nil, though all is free")
	}
	a.FreeBytes(b)
}

// Of two goroutines that free the same pages at once, one does and the other panics.
func TestFreeBytesByTwo(t *testing.T) {
	a := newAllocator(t, Options{})
	for range scaled(2000) {
		b := a.Bytes(50_000)
		var ready, did, panicked atomic.Int32
		free := func() {
			defer func() {
				if recover() != nil {
					panicked.Add(1)
				}
			}()
			for ready.Add(1); ready.Load() < 2; {
				runtime.Gosched()
			}
			a.FreeBytes(b)
			did.Add(1)
		}
		var wg sync.WaitGroup
		wg.Go(free)
		wg.Go(free)
		wg.Wait()
		if did.Load() != 1 || panicked.Load() != 1 || a.MemoryUsed() != 0 {
			t.Fatalf("%d freed it, %d panicked, %d bytes in use; want 1, 1, 0", did.Load(), panicked.Load(), a.MemoryUsed())
		}
	}
	mustWork(t, a)
}
