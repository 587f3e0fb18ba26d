package alloc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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
	shuffled := rand.Perm(n)
	b.Run("shuffled", func(b *testing.B) {
		for b.Loop() {
			for i := range objs {
				objs[i] = c.Alloc()
			}
			for _, i := range shuffled {
				c.Free(objs[i])
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

// BenchmarkBulk is a batch allocated by one call and freed by another, per object. A sheaf takes 60.
func BenchmarkBulk(b *testing.B) {
	a := newAllocator(b, Options{})
	c := newCache(b, a, "bulk", 64, CacheOptions{})
	for _, n := range []int{1, 4, 16, 32, 60, 64, 128, 250, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			objs := make([]unsafe.Pointer, n)
			for b.Loop() {
				c.AllocBulk(objs)
				c.FreeBulk(objs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/pair")
		})
	}
}

// BenchmarkCalmAtLimit tells what is left to a goroutine that needs no memory
// while others allocate in a loop at the limit, as a share of what is left to it while
// as many only use up CPU time. Slices of both kinds alternate; the share is
// the median of neighbours.
func BenchmarkCalmAtLimit(b *testing.B) {
	for _, greedy := range []int{1, 4} {
		b.Run(fmt.Sprint("greedy=", greedy), func(b *testing.B) {
			a := newAllocator(b, Options{})
			calm := newCache(b, a, "calm", 64, CacheOptions{})
			keep := calm.Alloc() // an empty slab would be reclaimed
			c := newCache(b, a, "greedy", 64, CacheOptions{})
			a.SetMemoryLimit(a.MemoryUsed() + 1<<20)
			held := fill(c)
			var burn, stop atomic.Bool
			var refused atomic.Int64
			var wg sync.WaitGroup
			for range greedy {
				wg.Go(func() {
					for n := 0; !stop.Load(); {
						if burn.Load() {
							n++
						} else if c.Alloc() == nil {
							refused.Add(1)
						}
					}
				})
			}
			slice := func() (pairs int) {
				for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); pairs += 100 {
					for range 100 {
						calm.Free(calm.Alloc())
					}
				}
				return pairs
			}
			var shares []float64
			for b.Loop() {
				burn.Store(true)
				alone := slice()
				burn.Store(false)
				shares = append(shares, float64(slice())/float64(alone))
			}
			stop.Store(true)
			wg.Wait()
			slices.Sort(shares)
			b.ReportMetric(shares[len(shares)/2], "share")
			b.ReportMetric(float64(refused.Load())/float64(b.N), "nil/op")
			freeAll(c, held)
			calm.Free(keep)
		})
	}
}

// A thousand caches with one slab each, made and destroyed: what the destroys take, and
// until all memory is back, for each cache.
func BenchmarkDestroy(b *testing.B) {
	const n = 1000
	for _, tc := range []struct {
		name string
		o    CacheOptions
	}{{"plain", CacheOptions{}}, {"typesafe", typesafe}} {
		b.Run(tc.name, func(b *testing.B) {
			a := newAllocator(b, Options{})
			var destroys, waits time.Duration
			for b.Loop() {
				caches := make([]*Cache, n)
				for i := range caches {
					caches[i] = newCache(b, a, fmt.Sprint("c", i), 64, tc.o)
					caches[i].Free(caches[i].Alloc())
				}
				begin := time.Now()
				for _, c := range caches {
					destroy(b, c)
				}
				returned := time.Now()
				if err := a.releaseListed(); err != nil { // as the work does
					b.Fatal(err)
				}
				a.toRelease.work.Flush()
				destroys += returned.Sub(begin)
				waits += time.Since(returned)
			}
			per := float64(b.N) * n
			b.ReportMetric(float64(destroys.Nanoseconds())/per, "ns/destroy")
			b.ReportMetric(float64(waits.Nanoseconds())/per, "ns/wait")
			b.ReportMetric(float64(a.RCU().Stats().GracePeriods)/float64(b.N), "grace-periods/1000")
			b.ReportMetric(0, "ns/op")
		})
	}
}
