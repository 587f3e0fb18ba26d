package bench

import "time"

// cache-scratch and cache-thrash (Berger et al., "Hoard: a scalable memory allocator for multithreaded
// applications", 2000): each thread allocates an object of one byte, writes to it for a while, and frees
// it, again and again. An allocator that gives two CPUs objects on one cache line makes them wait
// for that line at each write: false sharing. In cache-thrash it is the allocator that spreads a line (active);
// in cache-scratch the threads begin by freeing objects of one line, which one of them had allocated, so that
// an allocator that gives a CPU again what was freed there keeps the line shared (passive).
var (
	cacheThrash  = cacheLine("cache-thrash", "write to an object of one byte on each goroutine, and replace it", false)
	cacheScratch = cacheLine("cache-scratch", "the same, after each has freed an object of the same cache line", true)
)

// cacheWrites is how often an object is written to.
const cacheWrites = 2000

func cacheLine(name, what string, gifts bool) *workload {
	return &workload{
		name: name, what: what + "; over all writes, and how many times one goroutine's writes they do",
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

// writer returns a loop that frees the gift, if there is one, before all else.
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
				*p++ // the compiler leaves each of them a load and a store
			}
			h.free(obj)
		}
	}
}
