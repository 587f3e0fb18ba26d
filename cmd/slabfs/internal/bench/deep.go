package bench

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Lameter's first test of slab_test (Linux kernel mailing list, 2009): allocate
// 10,000 objects, then free them in the same order, in reverse or in random
// order. Sheaves and barns hold only some of the objects, so slabs are made,
// filled and emptied.
const deep = 10_000

var (
	deepInOrder  = deepIn("deep", "in the same order", true, nil)
	deepReverse  = deepIn("deep-reverse", "in reverse order", false, slices.Reverse[[]ref])
	deepShuffled = deepIn("deep-shuffled", "in random order", true, func(objs []ref) {
		rand.Shuffle(len(objs), func(i, j int) { objs[i], objs[j] = objs[j], objs[i] })
	})
)

func deepIn(name, order string, usual bool, reorder func([]ref)) *workload {
	return &workload{
		name: name, what: "allocate 10,000 objects, then free them " + order + "; time per pair", units: []unit{nsPerOp}, usual: usual, axis: bySize, loops: true,
		open: func(e *env) (*cell, error) {
			h, err := e.heap(e.row.at)
			if err != nil {
				return nil, err
			}
			objs := make([]ref, deep)
			c := &cell{destroy: h.close}
			c.measure = c.timeParts(deep, 1, func(n int, parts []time.Duration) {
				stopwatch(func() {
					for range n {
						start := threadTime()
						h.fill(objs)
						parts[0] += threadTime() - start
						if reorder != nil {
							reorder(objs)
						}
						start = threadTime()
						h.drain(objs)
						parts[0] += threadTime() - start
					}
				})
			})
			return c, nil
		},
	}
}

// Brouer's slab_bulk_test01 (netoptimizer/prototype-kernel, 2016): allocate a
// batch of objects in one call. The fast path has enough objects for a batch.
// For a peer without such a call, the workload makes a call for each object.
var bulk = &workload{
	name: "bulk", what: "allocate a batch of objects of 64 bytes in one call and free it in one call; time per pair", units: []unit{nsPerOp}, usual: true, axis: byBatch, loops: true,
	open: func(e *env) (*cell, error) {
		h, err := e.heap(64)
		if err != nil {
			return nil, err
		}
		objs := make([]ref, e.row.at)
		loop := func(n int) {
			for range n {
				h.fill(objs)
				h.drain(objs)
			}
		}
		if b, ok := h.(interface{ bulk(objs []ref, n int) }); ok {
			loop = func(n int) { b.bulk(objs, n) }
		}
		c := &cell{destroy: h.close}
		c.measure = c.timeLoop(len(objs), loop)
		return c, nil
	},
}
