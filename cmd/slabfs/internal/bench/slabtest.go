package bench

import (
	"fmt"
	"sync"
	"time"
)

// Lameter's slab_test (Linux kernel's mailing list, 2009; drivers/misc of later patch series), by size:
//
//	slabtest         one CPU: 10,000 allocations, 10,000 frees, and 10,000 pairs, each by itself
//	slabtest-all     the same on all CPUs at once, phase by phase
//	slabtest-remote  one CPU allocates and the others free; the others allocate and one frees
//
// The kernel's test counts cycles; these are nanoseconds.
var slabTest = &workload{
	name: "slabtest", what: "10,000 allocations, frees, pairs of one size, one after the other", axis: bySize, loops: true,
	units: []unit{{name: "alloc-ns", row: " alloc"}, {name: "free-ns", row: " free"}, {name: "pair-ns", row: " pair"}},
	open: func(e *env) (*cell, error) {
		h, err := e.heap(e.row.at)
		if err != nil {
			return nil, err
		}
		objs := make([]ref, deep)
		c := &cell{destroy: h.close}
		c.measure = c.timeParts(deep, 3, func(n int, parts []time.Duration) {
			stopwatch(func() {
				for range n {
					for i, f := range slabPhases(h, objs) {
						start := threadTime()
						f()
						parts[i] += threadTime() - start
					}
				}
			})
		})
		return c, nil
	},
}

// slabPhases returns the phases of slab_test.
func slabPhases(h heap, objs []ref) []func() {
	return []func(){func() { h.fill(objs) }, func() { h.drain(objs) }, func() { h.pairs(len(objs)) }}
}

var slabTestAll = &workload{
	name: "slabtest-all", what: "slabtest on all goroutines at once, each phase by itself", axis: bySize, loops: true, shared: true,
	units: slabTest.units,
	open: func(e *env) (*cell, error) {
		h, err := e.heap(e.row.at)
		if err != nil {
			return nil, err
		}
		phases := make([][]func(), 3)
		for range e.Goroutines {
			for i, f := range slabPhases(h, make([]ref, deep)) {
				phases[i] = append(phases[i], f)
			}
		}
		c := &cell{destroy: h.close}
		c.measure = c.timeParts(deep, 3, func(n int, parts []time.Duration) {
			for range n {
				for i, fs := range phases {
					parts[i] += atOnce(0, fs)
				}
			}
		})
		return c, nil
	},
}

// A CPU is what slab_test's remote free is about, so its goroutines are bound to one each.
var slabTestRemote = &workload{
	name: "slabtest-remote", what: "frees on other CPUs than those that allocated: one to many, many to one", axis: bySize, loops: true, shared: true,
	units: []unit{{name: "one-many-ns", row: " one to many"}, {name: "many-one-ns", row: " many to one"}},
	open: func(e *env) (*cell, error) {
		h, err := e.heap(e.row.at)
		if err != nil {
			return nil, err
		}
		many := max(e.Goroutines-1, 1)
		objs := make([]ref, many*deep)
		var all, fills, drains []func()
		all = append(all, func() { h.fill(objs) }, func() { h.drain(objs) })
		for i := range many {
			part := objs[i*deep:][:deep]
			fills, drains = append(fills, func() { h.fill(part) }), append(drains, func() { h.drain(part) })
		}
		c := &cell{destroy: h.close}
		c.measure = c.timeParts(deep, 2, func(n int, parts []time.Duration) {
			for range n {
				atOnce(0, all[:1])
				parts[0] += atOnce(1, drains)
				atOnce(1, fills)
				parts[1] += atOnce(0, all[1:]) / time.Duration(many)
			}
		})
		return c, nil
	},
}

// atOnce runs functions at the same time, each on a CPU of its own as far as there are as many, from the
// given one on, and returns how long one took on average.
func atOnce(cpu int, fs []func()) time.Duration {
	times := make([]time.Duration, len(fs))
	var ready, done sync.WaitGroup
	ready.Add(len(fs))
	start := make(chan struct{})
	for i, f := range fs {
		done.Go(func() {
			defer onCPU(cpu + i)()
			ready.Done()
			<-start
			began := time.Now()
			f()
			times[i] = time.Since(began)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return sum / time.Duration(len(fs))
}

// enough is an error if an allocator has given nil.
func enough(objs []ref) error {
	for i, obj := range objs {
		if obj == nil {
			return fmt.Errorf("no memory for more than %d of %d objects", i, len(objs))
		}
	}
	return nil
}
