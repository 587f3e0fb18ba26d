package bench

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"slabfs/alloc"
)

// The fast path and nothing else: an object is allocated and freed at once, so
// the object and all data on the way to it stay in the nearest cache. This
// flatters every allocator, most of all one with short code. (Lameter's second
// test of slab_test, Linux kernel mailing list, 2009.)
var pair = &workload{
	name: "pair", what: "allocate an object and free it; floor: two empty assembly calls", units: []unit{nsPerOp}, usual: true, axis: bySize, loops: true,
	open: func(e *env) (*cell, error) {
		h, err := e.heap(e.row.at)
		if err != nil {
			return nil, err
		}
		c := &cell{destroy: h.close}
		c.measure = c.timeLoop(1, h.pairs)
		return c, nil
	},
	floor: func(*Config) (*cell, error) {
		c := new(cell)
		c.measure = c.timeLoop(1, new(floor).pairs)
		return c, nil
	},
}

// Pairs on several goroutines at once. They wait for each other wherever they
// share data.
var parallel = &workload{
	name: "parallel", what: "pair with 64 bytes on all goroutines at once; time per pair, all goroutines together, and throughput as a multiple of one goroutine's",
	units: []unit{nsPerOp, scaling}, usual: true, shared: true, loops: true,
	open: func(e *env) (*cell, error) {
		h, err := e.heap(64)
		if err != nil {
			return nil, err
		}
		c := &cell{destroy: h.close}
		c.measure = c.timeScaling(e.Goroutines, h.pairs)
		return c, nil
	},
	floor: func(e *Config) (*cell, error) {
		c := new(cell)
		c.measure = c.timeScaling(e.Goroutines, new(floor).pairs)
		return c, nil
	},
}

// timeScaling measures a loop on one goroutine, then on several at once.
func (c *cell) timeScaling(goroutines int, loop func(n int)) func(time.Duration) ([]float64, error) {
	return func(d time.Duration) ([]float64, error) {
		begin := func() func(int) { return loop }
		_, one := together(1, chunk, begin, sleep(d))
		n, all := together(goroutines, chunk, begin, sleep(d))
		c.n = n
		return []float64{1e9 / all, all / one}, nil
	}
}

// floor is called in the same way as a Cache.
type floor struct{}

func (f *floor) Alloc()           { floorAlloc(f) }
func (f *floor) Free(obj uintptr) { floorFree(f, obj) }

func (f *floor) pairs(n int) {
	for range n {
		f.Alloc()
		f.Free(0)
	}
}

// A pair as a plain Go benchmark, which anybody might write, on an allocator of
// its own. It checks the loops of this package.
var plain = &workload{
	name: "plain", what: "pair with 64 bytes as a plain Go benchmark, to check the loops", units: []unit{nsPerOp},
	loops: true,
	open: func(e *env) (*cell, error) {
		loop, done, err := e.column.plain(e.alloc, e.cacheName())
		if err != nil {
			return nil, err
		}
		c := &cell{destroy: done}
		c.measure = func(d time.Duration) ([]float64, error) {
			testing.Init()
			if err := flag.Set("test.benchtime", d.String()); err != nil {
				return nil, fmt.Errorf("set the time of a benchmark: %w", err)
			}
			var t time.Duration
			r := testing.Benchmark(func(b *testing.B) { t = stopwatch(func() { loop(b) }) })
			c.n = r.N
			return []float64{float64(t) / float64(r.N)}, nil
		}
		return c, nil
	},
}

// A pair of zeroed values of a Go type, the interface that most programs use.
// Our own.
var typed = &workload{
	name: "typed", what: "allocate and free a zeroed object of a Go type of 64 bytes", units: []unit{nsPerOp}, usual: true,
	open: func(e *env) (*cell, error) {
		c := new(cell)
		switch {
		case e.column.name == slabfsLocal: // its pair allocates a Go type already
			return nil, nil
		case e.alloc != nil:
			t, err := alloc.NewTyped[object](e.alloc, e.cacheName(), alloc.CacheOptions{})
			if err != nil {
				return nil, err
			}
			c.destroy = t.Cache().Destroy
			c.measure = c.timeLoop(1, func(n int) {
				for range n {
					t.Free(t.Alloc())
				}
			})
		case e.column.name == "sync.Pool":
			p := newObjectPool()
			c.measure = c.timeLoop(1, func(n int) {
				for range n {
					obj := p.Get().(*object)
					*obj = object{}
					p.Put(obj)
				}
			})
		case e.column.name == "new": // new always zeroes
			h, err := e.heap(len(object{}))
			if err != nil {
				return nil, err
			}
			c.measure = c.timeLoop(1, h.pairs)
		default:
			return nil, nil // the others have no types
		}
		return c, nil
	},
}

// An object is the type that the typed workloads allocate.
type object [64]byte
