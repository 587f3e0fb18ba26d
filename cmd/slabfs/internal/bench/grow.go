package bench

import "time"

// What memory costs on its way in and out. Our own.
//
//	grow       time per 4 KiB to allocate and write 64 MiB of objects when
//	           the allocator holds no memory: page faults, and what the
//	           allocator adds. The allocator had the memory before and has
//	           returned it.
//	grow-cold  the same in a process that never had the memory, so its page
//	           tables are touched for the first time too
//	return     the share of freed memory that is no longer resident, after
//	           90 % of the objects were freed in the order of allocation and
//	           the allocator was told to return memory
//
// The floor of grow is the fault of a huge page.
var (
	grow     = growing("grow", "allocate and write 64 MiB of objects of 512 bytes when the allocator holds no memory; time per 4 KiB; floor: faults of huge pages", long)
	growCold = growing("grow-cold", "the same, for the first time in a process", first)
	giveBack = &workload{
		name: "return", what: "free 90 % of 64 MiB of objects of 64 bytes and return the memory; share of it that is no longer resident", phase: heavy,
		units: []unit{{name: "returned", more: true}},
		open: func(e *env) (*cell, error) {
			const size = 64
			h, err := e.heap(size)
			if err != nil {
				return nil, err
			}
			var objs []ref
			var freed int
			var base float64
			c := &cell{destroy: h.close, n: min(growBytes/size, e.Objects)}
			c.prepare = func() error {
				objs, freed = make([]ref, c.n), 0
				h.trim()
				scavenge()
				clear(objs) // makes them resident
				base = rss()
				h.fill(objs)
				if err := enough(objs); err != nil {
					return err
				}
				touch(objs)
				return nil
			}
			c.measure = func(time.Duration) ([]float64, error) {
				full := rss()
				freed = len(objs) * 9 / 10
				h.drain(objs[:freed])
				clear(objs[:freed])
				h.trim()
				return []float64{max(full-rss(), 0) / max(0.9*(full-base), 1)}, nil
			}
			c.clean = func() error {
				drainSome(h, objs[freed:])
				objs = nil
				h.trim()
				return nil
			}
			return c, nil
		},
	}
)

const (
	growBytes = 64 << 20
	growSize  = 512
)

func growing(name, what string, p phase) *workload {
	return &workload{
		name: name, what: what, units: []unit{{name: "ns/4KiB"}}, phase: p,
		open: func(e *env) (*cell, error) {
			h, err := e.heap(growSize)
			if err != nil {
				return nil, err
			}
			var objs []ref
			c := &cell{destroy: h.close, n: min(growBytes/growSize, e.Objects)}
			c.prepare = func() error {
				objs = make([]ref, c.n)
				clear(objs) // makes them resident
				h.trim()
				return nil
			}
			c.measure = func(time.Duration) ([]float64, error) {
				t := stopwatch(func() {
					h.fill(objs)
					if err = enough(objs); err == nil {
						touch(objs)
					}
				})
				return []float64{float64(t) / float64(len(objs)*growSize) * 4096}, err
			}
			c.clean = func() error {
				drainSome(h, objs)
				objs = nil
				h.trim()
				return nil
			}
			return c, nil
		},
		floor: growFloor,
	}
}
