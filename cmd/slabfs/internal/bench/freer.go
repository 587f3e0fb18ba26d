package bench

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// The uninitialised freer (microsoft/mimalloc#1364, 2025): producers replace
// objects of 592 bytes in sets of constant size, and one goroutine, which never
// allocates, frees all replaced objects. The live memory is constant, so if
// resident memory grows, the allocator loses memory on the way from the freeing
// goroutine to the allocating ones. The original has 16 producers with 370 MiB;
// here each producer has 32 MiB.
var freer = &workload{
	name: "freer", what: "goroutines replace objects of 592 bytes, and another goroutine frees them; resident memory divided by live bytes",
	units: []unit{{name: "RSS/live", row: " RSS/live"}}, usual: true, phase: heavy, shared: true,
	open: func(e *env) (*cell, error) {
		h, err := e.heap(freerSize)
		if err != nil {
			return nil, err
		}
		f := &freers{heap: h, producers: e.Goroutines, each: min(freerBytes/freerSize, e.Objects)}
		c := &cell{destroy: h.close, prepare: f.prepare, clean: f.clean}
		c.measure = func(time.Duration) ([]float64, error) {
			ratio, n, err := f.run()
			c.n = n
			return []float64{ratio}, err
		}
		return c, nil
	},
}

const (
	freerSize  = 592
	freerBytes = 32 << 20
	freerTurns = 20 // how often each object is replaced
	freerQueue = 1024
)

type freers struct {
	heap      heap
	producers int
	each      int     // objects of a producer
	live      [][]ref // of each producer
	base      float64 // rss before the objects
}

func (f *freers) prepare() error {
	f.live = make([][]ref, f.producers)
	f.heap.trim()
	scavenge()
	f.base = rss()
	for i := range f.live {
		f.live[i] = make([]ref, f.each)
		objs := f.live[i]
		f.heap.fill(objs)
		if err := enough(objs); err != nil {
			return err
		}
		touch(objs)
	}
	return nil
}

// run replaces all objects freerTurns times. It returns the median of resident
// over live bytes in the second half.
func (f *freers) run() (ratio float64, n int, err error) {
	queue := make(chan ref, freerQueue)
	var producers, consumer sync.WaitGroup
	var replaced atomic.Int64
	freed := 0
	consumer.Go(func() {
		for obj := range queue {
			f.heap.free(obj)
			freed++
		}
	})
	for _, objs := range f.live {
		producers.Go(func() {
			rnd := newRand()
			for range freerTurns {
				for range objs {
					i := rnd.IntN(len(objs))
					queue <- objs[i]
					objs[i] = f.heap.alloc()
					touch(objs[i:][:1])
				}
				replaced.Add(int64(len(objs)))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		producers.Wait()
		close(queue)
		consumer.Wait()
		close(done)
	}()
	var sizes []float64
	for more := true; more; {
		select {
		case <-done:
			more = false
		case <-time.After(5 * time.Millisecond):
		}
		sizes = append(sizes, rss()-f.base)
	}
	if n = int(replaced.Load()); n != freed {
		return 0, n, fmt.Errorf("%d objects were replaced and %d freed", n, freed)
	}
	return max(median(sizes[len(sizes)/2:]), 0) / float64(f.producers*f.each*freerSize), n, nil
}

func (f *freers) clean() error {
	for _, objs := range f.live {
		drainSome(f.heap, objs)
	}
	f.live = nil
	f.heap.trim()
	return nil
}
