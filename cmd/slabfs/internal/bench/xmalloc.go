package bench

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"slabfs/internal/lockdep"
)

// xmalloc-test (Lever and Boreham, "malloc() performance in a multithreaded
// Linux environment", 2000, with the parameters of mimalloc-bench). Half of the
// threads allocate batches of 4096 objects of 64 bytes and write to them; the
// other half frees them. At most 100 batches wait on a stack, under one mutex.
// So each object is freed by a thread that allocates none, and caches of
// threads or CPUs fill on one side and empty on the other. Here the batches
// themselves are reused, so that only objects count.
var xmalloc = &workload{
	name: "xmalloc", what: "half of the goroutines allocate objects of 64 bytes, the others free them; time per object, all goroutines together", units: []unit{nsPerOp},
	usual: true, phase: long, shared: true,
	open: func(e *env) (*cell, error) {
		h, err := e.heap(xmallocSize)
		if err != nil {
			return nil, err
		}
		var x *exchange
		c := &cell{destroy: h.close}
		c.prepare = func() error {
			x = newExchange(h)
			return nil
		}
		c.clean = func() error {
			x = nil // so that objects in its batches do not burden the collector
			return nil
		}
		c.measure = c.timeRun(func(d time.Duration) (int, error) {
			made, freed := x.run(max(e.Goroutines/2, 1), d)
			if made != freed {
				return 0, fmt.Errorf("%d objects were allocated and %d freed", made, freed)
			}
			return freed, nil
		})
		return c, nil
	},
}

const (
	xmallocSize  = 64
	xmallocBatch = 4096
	xmallocQueue = 100
)

// A batch is a set of objects that a producer passes to a consumer.
type batch [xmallocBatch]ref

// An exchange is where batches wait for a thread.
type exchange struct {
	heap heap

	mu        lockdep.Mutex
	changed   [2]*sync.Cond // full or empty has one more batch, or the run has ended
	full      []*batch
	empty     []*batch
	producers int
}

var exchangeClass = lockdep.NewClass("bench exchange")

func newExchange(h heap) *exchange {
	x := &exchange{heap: h}
	x.mu.Init(exchangeClass)
	for i := range x.changed {
		x.changed[i] = sync.NewCond(&x.mu)
	}
	for range xmallocQueue {
		x.empty = append(x.empty, new(batch))
	}
	return x
}

// run works for d with pairs producers and as many consumers, and then until
// all objects are freed.
func (x *exchange) run(pairs int, d time.Duration) (made, freed int) {
	var stop atomic.Bool
	var in, out atomic.Int64
	var wg sync.WaitGroup
	x.producers = pairs
	for range pairs {
		wg.Go(func() {
			for more := true; more; more = !stop.Load() {
				b := x.take(&x.empty, 1)
				x.heap.fill(b[:])
				for i, obj := range b {
					set(obj, xmallocSize, byte(i))
				}
				in.Add(int64(len(b)))
				x.put(&x.full, 0, b)
			}
			x.mu.Lock()
			x.producers--
			x.mu.Unlock()
			x.changed[0].Broadcast()
		})
		wg.Go(func() {
			for b := x.take(&x.full, 0); b != nil; b = x.take(&x.full, 0) {
				x.heap.drain(b[:])
				out.Add(int64(len(b)))
				x.put(&x.empty, 1, b)
			}
		})
	}
	time.Sleep(d)
	stop.Store(true)
	wg.Wait()
	return int(in.Load()), int(out.Load())
}

// take waits for a batch on a stack. It returns nil if none is there and none
// will come.
func (x *exchange) take(stack *[]*batch, cond int) *batch {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(*stack) == 0 {
		if stack == &x.full && x.producers == 0 {
			return nil
		}
		x.changed[cond].Wait()
	}
	b := (*stack)[len(*stack)-1]
	*stack = (*stack)[:len(*stack)-1]
	return b
}

func (x *exchange) put(stack *[]*batch, cond int, b *batch) {
	x.mu.Lock()
	*stack = append(*stack, b)
	x.mu.Unlock()
	x.changed[cond].Signal()
}
