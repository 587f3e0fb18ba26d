package bench

import "time"

// cache-scratch and cache-thrash (Berger et al., "Hoard: a scalable memory
// allocator for multithreaded applications", 2000). Each thread allocates an
// object of one byte, writes to it for a while, and frees it, again and again.
// If an allocator gives two CPUs objects on one cache line, they wait for that
// line at each write: false sharing. In cache-thrash the allocator itself
// spreads a line over CPUs (active false sharing). In cache-scratch each thread
// first frees an object of a line that one thread had allocated. An allocator
// that reuses the object on the CPU where it was freed keeps the line shared
// (passive).
var (
	cacheThrash  = cacheLine("cache-thrash", "each goroutine writes to an object of one byte, then replaces it", false)
	cacheScratch = cacheLine("cache-scratch", "the same, but each goroutine first frees an object of one shared cache line", true)
)

// cacheWrites is how often an object is written to.
const cacheWrites = 2000

func cacheLine(name, what string, gifts bool) *workload {
	return &workload{
		name: name, what: what + "; time per write, all goroutines together, and throughput as a multiple of one goroutine's",
		units: []unit{{name: "ns/write"}, scaling}, shared: true,
		open: func(e *env) (*cell, error) {
			h, err := e.heap(1)
			if err != nil {
				return nil, err
			}
			begin := func() func(int) { return writer(h, nil) }
			c := &cell{destroy: h.close}
			c.measure = func(d time.Duration) ([]float64, error) {
				_, one := together(1, 1, begin, sleep(d))
				var given []ref
				if gifts {
					given = make([]ref, e.Goroutines)
					h.fill(given)
				}
				next := 0
				n, all := together(e.Goroutines, 1, func() func(int) {
					if !gifts {
						return begin()
					}
					next++
					return writer(h, given[next-1])
				}, sleep(d))
				c.n = n * cacheWrites
				return []float64{1e9 / all / cacheWrites, all / one}, nil
			}
			return c, nil
		},
	}
}

// writer returns a loop that first frees the gift, if there is one.
func writer(h heap, gift ref) func(n int) {
	return func(n int) {
		if gift != nil {
			h.free(gift)
			gift = nil
		}
		for range n {
			obj := h.alloc()
			p := &view(obj, 1)[0]
			for range cacheWrites {
				*p++ // the compiler keeps a load and a store for each
			}
			h.free(obj)
		}
	}
}
