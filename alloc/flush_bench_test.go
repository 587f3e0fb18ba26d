package alloc

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// BenchmarkFlushThroughput is how much all CPUs together allocate while their cache is flushed
// 100 times a second, as a share of what they allocate while it is not. Slices of 100 ms
// with and without flushes alternate, each pair in the other order than the one before;
// an iteration is a pair. The share is the median of the pairs, low and high are
// its 95 % interval by ranks. Use -benchtime 200x or more.
func BenchmarkFlushThroughput(b *testing.B) {
	const slice, flushes = 100 * time.Millisecond, 10 // in a slice
	for _, bm := range []struct {
		name  string
		depth int // objects that a goroutine has before it frees them
	}{{"depth=1", 1}, {"depth=50", 50}} {
		b.Run(bm.name, func(b *testing.B) {
			a := newAllocator(b, Options{})
			c := newCache(b, a, "flushed", 64, CacheOptions{})
			var stop atomic.Bool
			type padded struct {
				pairs atomic.Int64
				_     [56]byte
			}
			done := make([]padded, runtime.GOMAXPROCS(0))
			var wg sync.WaitGroup
			for g := range done {
				wg.Go(func() {
					objs := make([]unsafe.Pointer, bm.depth)
					for !stop.Load() {
						for range 1 + 100/bm.depth {
							for i := range objs {
								objs[i] = c.Alloc()
							}
							for _, obj := range objs {
								c.Free(obj)
							}
						}
						done[g].pairs.Add(int64((1 + 100/bm.depth) * bm.depth))
					}
				})
			}
			sum := func() (n int64) {
				for i := range done {
					n += done[i].pairs.Load()
				}
				return n
			}
			rate := func(flushed bool) float64 {
				start, before := time.Now(), sum()
				for i := range flushes { // the same sleeps in both
					if flushed {
						flush(b, c)
					}
					time.Sleep(time.Until(start.Add(slice * time.Duration(i+1) / flushes)))
				}
				return float64(sum()-before) / float64(time.Since(start))
			}
			rate(true)
			var shares []float64
			for b.Loop() {
				first := len(shares)%2 == 0
				x, y := rate(first), rate(!first)
				if !first {
					x, y = y, x
				}
				shares = append(shares, x/y)
			}
			stop.Store(true)
			wg.Wait()
			slices.Sort(shares)
			n := float64(len(shares))
			half := 1.96 * math.Sqrt(n) / 2
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(shares[len(shares)/2], "share")
			b.ReportMetric(shares[max(int(n/2-half), 0)], "low")
			b.ReportMetric(shares[min(int(math.Ceil(n/2+half)), len(shares)-1)], "high")
		})
	}
}
