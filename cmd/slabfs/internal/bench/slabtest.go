package bench

import (
	"fmt"
	"sync"
	"time"
)

// Lameter's slab_test (Linux kernel mailing list, 2009; drivers/misc of later
// patch series), by size:
//
//	slabtest         one CPU: 10,000 allocations, 10,000 frees and 10,000 pairs, each timed by itself
//	slabtest-all     the same on all CPUs at once, phase by phase
//	slabtest-remote  one CPU allocates and the others free; the others allocate and one frees
//
// The kernel's test counts cycles; these are nanoseconds.
var slabTest = &workload{
	name: "slabtest", what: "10,000 allocations, then 10,000 frees, then 10,000 pairs of one size", axis: bySize, loops: true,
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
	name: "slabtest-all", what: "slabtest on all goroutines at once, phase by phase", axis: bySize, loops: true, shared: true,
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

// The remote free of slab_test is about CPUs, so each goroutine is bound to
// one.
var slabTestRemote = &workload{
	name: "slabtest-remote", what: "free on other CPUs: one allocates and many free, then many allocate and one frees", axis: bySize, loops: true, shared: true,
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

// atOnce runs functions at the same time, and returns how long one took on
// average. Each function runs on a CPU of its own, from cpu on, as long as
// there are enough CPUs.
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

// enough returns an error if an allocation returned nil.
func enough(objs []ref) error {
	for i, obj := range objs {
		if obj == nil {
			return fmt.Errorf("no memory for more than %d of %d objects", i, len(objs))
		}
	}
	return nil
}
