package alloc

import (
	"sync"
	"testing"
	"unsafe"
)

func BenchmarkPair(b *testing.B) {
	a := newAllocator(b, Options{})
	c := newCache(b, a, "pair", 64, CacheOptions{})
	pool := sync.Pool{New: func() any { return new([64]byte) }}
	b.Run("slabfs", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Free(c.Alloc())
		}
	})
	b.Run("sync.Pool", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pool.Put(pool.Get())
		}
	})
}

func BenchmarkDeep(b *testing.B) {
	const n = 10_000
	a := newAllocator(b, Options{})
	c := newCache(b, a, "deep", 64, CacheOptions{})
	pool := sync.Pool{New: func() any { return new([64]byte) }}
	objs := make([]unsafe.Pointer, n)
	held := make([]any, n)
	b.Run("slabfs", func(b *testing.B) {
		for b.Loop() {
			for i := range objs {
				objs[i] = c.Alloc()
			}
			for _, obj := range objs {
				c.Free(obj)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/pair")
	})
	b.Run("sync.Pool", func(b *testing.B) {
		for b.Loop() {
			for i := range held {
				held[i] = pool.Get()
			}
			for _, obj := range held {
				pool.Put(obj)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/pair")
	})
}
