package bench

import (
	"errors"
	"runtime"
	"time"

	"slabfs/alloc"
)

// What live objects cost the garbage collector, and what the collector costs
// requests. Our own.
//
// Ten million objects of 64 bytes are live. First runtime.GC is timed. Then a
// request comes every 10 µs, whether the last one is done or not (an open loop:
// a request that comes while the collector works waits, and the wait counts).
// Each request replaces the 64 oldest objects and makes 1 KiB of garbage on the
// Go heap, as a handler does. If the objects are on the Go heap, collections
// become due on the way. CPU is the time that all collections took, divided by
// their number.
var (
	gc = &workload{
		name: "gc", what: "runtime.GC with live objects, which slabfs holds as Ref; then CPU time per collection, the longest pause, resident memory, and the 99.9th percentile of request latency; floor: no objects",
		units: gcUnits, usual: true, phase: heavy, open: openGC(false), floor: floorGC,
	}
	gcPointers = &workload{
		name: "gc-pointers", what: "the same, with the objects held as pointers",
		units: gcUnits, phase: heavy, open: openGC(true), floor: floorGC,
	}
	longestPause = unit{name: "pause-ns", row: " pause"}
	gcUnits      = []unit{
		nsPerOp, {name: "GC-ns", row: " CPU"}, longestPause, {name: "RSS-MiB", row: " RSS"}, {name: "p99.9-ns", row: " p99.9"},
	}
)

const (
	gcEach     = 64   // objects that a request replaces
	gcGarbage  = 1024 // bytes
	gcInterval = 10 * time.Microsecond
)

// A holder holds live objects.
type holder interface {
	hold(n int) error // allocate n objects
	replace(from, to int)
	drop() error
}

func openGC(pointers bool) func(e *env) (*cell, error) {
	return func(e *env) (*cell, error) {
		if e.column.name == slabfsLocal { // the live objects do not lie in its sheaf
			return nil, nil
		}
		if e.alloc == nil || pointers {
			if pointers && e.alloc == nil {
				return nil, nil // gc measures this already
			}
			h, err := e.heap(len(object{}))
			if err != nil {
				return nil, err
			}
			return gcCell(&pointerHolder{heap: h}, e.Objects, h.close), nil
		}
		t, err := alloc.NewTyped[object](e.alloc, e.cacheName(), alloc.CacheOptions{})
		if err != nil {
			return nil, err
		}
		return gcCell(&refHolder{t: t}, e.Objects, t.Cache().Destroy), nil
	}
}

func floorGC(c *Config) (*cell, error) { return gcCell(emptyHolder{}, c.Objects, nil), nil }

func gcCell(h holder, objects int, destroy func() error) *cell {
	c := &cell{destroy: destroy, n: collections}
	var base float64
	c.prepare = func() error {
		scavenge()
		base = rss()
		return h.hold(objects)
	}
	c.clean = func() error {
		defer scavenge()
		return h.drop()
	}
	c.measure = func(time.Duration) ([]float64, error) {
		runtime.GC() // sweeps the garbage from before
		before := readCollector()
		full := timeGC()
		slow := serve(h, objects)
		after := readCollector()
		return []float64{
			full, float64(after.cpu-before.cpu) / float64(after.cycles-before.cycles), float64(after.longest(before)),
			max(rss()-base, 0) / (1 << 20), slow,
		}, nil
	}
	return c
}

// collections is how many collections one sample is the median of.
const collections = 3

// timeGC times the collector by the clock, because it runs on all CPUs.
func timeGC() float64 {
	var times []float64
	for range collections {
		start := time.Now()
		runtime.GC()
		times = append(times, float64(time.Since(start)))
	}
	return median(times)
}

// serve replaces one and a half times as many objects as are live. It returns
// the 99.9th percentile of the times of requests.
func serve(h holder, objects int) float64 {
	times := make([]float64, max(objects*3/2/gcEach, 1))
	var garbage []byte
	start := time.Now()
	for i := range times {
		due := time.Duration(i) * gcInterval
		for time.Since(start) < due { // spin, as on a busy server
		}
		from := i * gcEach % objects
		h.replace(from, min(from+gcEach, objects))
		garbage = make([]byte, gcGarbage)
		times[i] = float64(time.Since(start) - due)
	}
	keepBytes(garbage)
	return quantile(times, 0.999)
}

type emptyHolder struct{}

func (emptyHolder) hold(int) error   { return nil }
func (emptyHolder) replace(int, int) {}
func (emptyHolder) drop() error      { return nil }

// A pointerHolder holds objects by pointers that the collector sees.
type pointerHolder struct {
	heap heap
	objs []ref
}

func (h *pointerHolder) hold(n int) error {
	h.objs = make([]ref, n)
	h.heap.fill(h.objs)
	if err := enough(h.objs); err != nil {
		return errors.Join(err, alloc.ErrNoMemory)
	}
	touch(h.objs)
	return nil
}

func (h *pointerHolder) replace(from, to int) {
	h.heap.drain(h.objs[from:to])
	h.heap.fill(h.objs[from:to])
	touch(h.objs[from:to])
}

func (h *pointerHolder) drop() error {
	drainSome(h.heap, h.objs)
	h.objs = nil
	h.heap.trim()
	return nil
}

// drainSome frees the objects before the first nil.
func drainSome(h heap, objs []ref) {
	for i, obj := range objs {
		if obj == nil {
			objs = objs[:i]
			break
		}
	}
	h.drain(objs)
}

// A refHolder holds objects as Ref, which the collector does not follow.
type refHolder struct {
	t    *alloc.Typed[object]
	refs []alloc.Ref[object]
}

func (h *refHolder) hold(n int) error {
	h.refs = make([]alloc.Ref[object], n)
	for i := range h.refs {
		if h.refs[i] = h.t.AllocRef(); h.refs[i].IsNil() {
			h.refs = h.refs[:i]
			return alloc.ErrNoMemory
		}
	}
	return nil
}

func (h *refHolder) replace(from, to int) {
	for i := from; i < to; i++ {
		h.t.FreeRef(h.refs[i])
		h.refs[i] = h.t.AllocRef()
	}
}

func (h *refHolder) drop() error {
	for _, r := range h.refs {
		h.t.FreeRef(r)
	}
	h.refs = nil
	h.t.Cache().Shrink()
	return nil
}
