package bench

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slabfs/alloc"
)

// A workload is one row of the table, or a row for each of its units.
type workload struct {
	name  string
	what  string // what it does, for people
	units []unit // of the figures that measure returns
	count int    // objects of one operation
	heavy bool   // takes seconds and much memory: only the first process runs it, after everything else

	measure func(*workload, *cell, time.Duration) []float64
	slabfs  func(a *alloc.Allocator, name string, c Config) (*cell, error) // on either engine; name is for its cache
	peers   map[string]func(Config) *cell
}

// A cell is a workload on an allocator.
type cell struct {
	workload  *workload
	allocator string

	loop  func(n int)      // does n operations
	plain func(*testing.B) // instead of loop: a Go benchmark
	n     int              // operations that take as long as a cell should

	prepare func() error // not measured, before each block; nil: nothing to do
	clean   func()       // behind it
	destroy func() error // at the end
}

// Allocators, in the order of the columns.
const (
	slabfsRSeq = "slabfs"      // restartable sequences
	slabfsLock = "slabfs-lock" // the lock engine
	syncPool   = "sync.Pool"
	heapNew    = "new" // or make
	floorName  = "floor"
)

var engines = map[string]alloc.Engine{slabfsRSeq: alloc.RSeq, slabfsLock: alloc.Lock}

// Allocators returns the names of all columns.
func Allocators() []string {
	return []string{slabfsRSeq, slabfsLock, syncPool, heapNew, floorName}
}

// A unit is what a figure counts.
type unit struct {
	name string // as benchstat knows it
	row  string // behind the workload's name in the table
	more bool   // more is better
}

var (
	nsPerOp = unit{name: "ns/op"}
	scaling = unit{name: "scaling", row: " scaling", more: true}
)

var pair = &workload{
	name: "pair", what: "allocate an object of 64 bytes and free it", units: []unit{nsPerOp}, count: 1,
	measure: timeLoop, slabfs: pairSlabfs,
	peers: map[string]func(Config) *cell{syncPool: pairPool, heapNew: pairNew, floorName: pairFloor},
}

// The makers of cells are called through these tables only: where the compiler
// inlines a maker it does not inline the methods that its loop calls.
var allWorkloads = []*workload{
	pair,
	{
		name: "plain", what: "pair as a plain Go benchmark, to check the loops", units: []unit{nsPerOp}, count: 1,
		measure: timePlain, slabfs: plainSlabfs,
		peers: map[string]func(Config) *cell{syncPool: plainPool, heapNew: plainNew},
	},
	{
		name: "typed", what: "pair of zeroed objects of a Go type", units: []unit{nsPerOp}, count: 1,
		measure: timeLoop, slabfs: typedSlabfs,
		peers: map[string]func(Config) *cell{syncPool: typedPool, heapNew: pairNew},
	},
	{
		name: "bytes", what: "pair of slices of 64 bytes", units: []unit{nsPerOp}, count: 1,
		measure: timeLoop, slabfs: bytesSlabfs,
		peers: map[string]func(Config) *cell{syncPool: bytesPool, heapNew: bytesNew},
	},
	{
		name: "deep", what: "allocate 10,000 objects, then free them in that order; per pair", units: []unit{nsPerOp}, count: deep,
		measure: timeLoop, slabfs: deepSlabfs,
		peers: map[string]func(Config) *cell{syncPool: deepPool, heapNew: deepNew},
	},
	{
		name: "bulk", what: "allocate 32 objects in one call and free them in one; per pair", units: []unit{nsPerOp}, count: bulk,
		measure: timeLoop, slabfs: bulkSlabfs,
		peers: map[string]func(Config) *cell{syncPool: bulkPool, heapNew: bulkNew},
	},
	{
		name: "two", what: "pair on two goroutines; time over all pairs, and how much one goroutine does less", units: []unit{nsPerOp, scaling}, count: 1,
		measure: timeTwo, slabfs: pairSlabfs,
		peers: map[string]func(Config) *cell{syncPool: pairPool, heapNew: pairNew, floorName: pairFloor},
	},
	{
		name: "gc", what: "runtime.GC with live objects, those of slabfs held as Ref; floor: an empty heap", units: []unit{nsPerOp}, count: 1, heavy: true,
		measure: timeGC, slabfs: gcRef,
		peers: map[string]func(Config) *cell{syncPool: gcPool, heapNew: gcNew, floorName: gcFloor},
	},
	{
		name: "gc-pointers", what: "the same, held as *T", units: []unit{nsPerOp}, count: 1, heavy: true,
		measure: timeGC, slabfs: gcPointer,
		peers: map[string]func(Config) *cell{floorName: gcFloor},
	},
}

// Workloads returns the names of all rows, and what they do.
func Workloads() (names, whats []string) {
	for _, w := range allWorkloads {
		names, whats = append(names, w.name), append(whats, w.what)
	}
	return names, whats
}

// timeLoop measures one goroutine.
func timeLoop(w *workload, c *cell, d time.Duration) []float64 {
	c.calibrate(d)
	t := stopwatch(func() { c.loop(c.n) })
	return []float64{float64(t) / float64(c.n) / float64(w.count)}
}

// calibrate finds out how many operations take d, and warms the cell by that.
func (c *cell) calibrate(d time.Duration) {
	for n := 1; c.n == 0; n *= 2 {
		if t := stopwatch(func() { c.loop(n) }); t > d/4 {
			c.n = max(int(float64(n)*float64(d)/float64(t)), 1)
		}
	}
}

// timeTwo measures pairs a second on one goroutine and on two.
func timeTwo(_ *workload, c *cell, d time.Duration) []float64 {
	one, two := c.together(1, d), c.together(2, d)
	return []float64{1e9 / two, two / one}
}

// together runs the loop on several goroutines at once and returns how many
// operations they did in a second, together.
func (c *cell) together(goroutines int, d time.Duration) float64 {
	const chunk = 1024
	var (
		stop atomic.Bool
		done atomic.Int64
		wg   sync.WaitGroup
	)
	start := make(chan struct{})
	for range goroutines {
		wg.Go(func() {
			<-start
			somewhere(func() {
				for more := true; more; more = !stop.Load() {
					c.loop(chunk)
					done.Add(chunk)
				}
			})
		})
	}
	began := time.Now()
	close(start)
	time.Sleep(d)
	stop.Store(true)
	wg.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

// collections is how many of them one sample is the median of.
const collections = 3

// timeGC measures the collector, by the clock: it runs on all CPUs. The first run, which is not
// counted, sweeps what was there before.
func timeGC(_ *workload, c *cell, _ time.Duration) []float64 {
	c.loop(1)
	c.n = collections
	var times []float64
	for range c.n {
		start := time.Now()
		c.loop(1)
		times = append(times, float64(time.Since(start)))
	}
	return []float64{median(times)}
}

// timePlain runs a Go benchmark.
func timePlain(_ *workload, c *cell, d time.Duration) []float64 {
	testing.Init()
	if err := flag.Set("test.benchtime", d.String()); err != nil {
		panic(fmt.Sprintf("bench: set the time of a benchmark: %v", err))
	}
	var t time.Duration
	r := testing.Benchmark(func(b *testing.B) { t = stopwatch(func() { c.plain(b) }) })
	c.n = r.N
	return []float64{float64(t) / float64(r.N)}
}

// A bed is where cells lie: an allocator for each engine.
type bed struct {
	engines map[string]*alloc.Allocator
	cells   []*cell
}

// newBed makes the allocators that are asked for. Where there is no rseq engine
// its column is left out, unless nothing else was asked for, and note says why.
func newBed(c *Config) (b *bed, note string, err error) {
	b = &bed{engines: make(map[string]*alloc.Allocator)}
	for _, name := range slices.Clone(c.Allocators) {
		engine, ok := engines[name]
		if !ok {
			continue
		}
		a, err := alloc.New(alloc.Options{Engine: engine})
		switch {
		case err == nil:
			b.engines[name] = a
		case engine == alloc.RSeq && len(c.Allocators) > 1:
			note = fmt.Sprintf("no column %q: %v", name, err)
			c.Allocators = slices.DeleteFunc(slices.Clone(c.Allocators), func(n string) bool { return n == name })
		default:
			return nil, "", errors.Join(err, b.close())
		}
	}
	return b, note, nil
}

// cellsOf makes the cells of a workload, those of allocators that it does not know left out.
func (b *bed) cellsOf(w *workload, c *Config) ([]*cell, error) {
	var cells []*cell
	for _, name := range c.Allocators {
		var made *cell
		if a := b.engines[name]; a != nil {
			var err error
			if made, err = w.slabfs(a, "bench-"+w.name, *c); err != nil {
				return nil, fmt.Errorf("%s on %s: %w", w.name, name, err)
			}
		} else if peer := w.peers[name]; peer != nil {
			made = peer(*c)
		} else {
			continue
		}
		made.workload, made.allocator = w, name
		cells = append(cells, made)
	}
	b.cells = append(b.cells, cells...)
	return cells, nil
}

// close gives everything back. The error tells of objects that a loop has not freed.
func (b *bed) close() error {
	var errs []error
	for _, c := range b.cells {
		if c.destroy != nil {
			errs = append(errs, c.destroy())
		}
	}
	for _, a := range b.engines {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}
