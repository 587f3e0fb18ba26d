package bench

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// larson (Larson and Krishnan, "Memory allocation for long-running server
// applications", 1998, with the parameters of mimalloc-bench). The threads of a
// server replace objects of 8 to 999 bytes in random order, each in 5000 slots
// of its own. One thread has filled and shuffled all slots, so most first frees
// are of objects that another thread allocated. After 500,000 replacements a
// thread ends, and a successor takes over its slots.
var larson = &workload{
	name: "larson", what: "replace slices of 8 to 999 bytes in random order, while goroutines end and successors take their slices over; time per replacement, all goroutines together",
	units: []unit{nsPerOp}, usual: true, phase: long, shared: true,
	slices: true,
	open: func(e *env) (*cell, error) {
		h := e.bytes()
		l := &larsonServer{heap: h, slots: make([][]byte, e.Goroutines*larsonSlots)}
		c := &cell{destroy: h.close, prepare: l.prepare, clean: l.clean}
		c.measure = c.timeRun(l.run)
		return c, nil
	},
}

const (
	larsonSlots = 5000
	larsonLife  = 100 * larsonSlots // replacements of a thread
	larsonMin   = 8
	larsonMax   = 1000
)

type larsonServer struct {
	heap  bytesHeap
	slots [][]byte
}

// prepare fills and shuffles the slots.
func (l *larsonServer) prepare() error {
	for i := range l.slots {
		l.slots[i] = l.heap.alloc(larsonMin + rand.IntN(larsonMax-larsonMin))
	}
	rand.Shuffle(len(l.slots), func(i, j int) { l.slots[i], l.slots[j] = l.slots[j], l.slots[i] })
	return l.replace(l.slots, 4*len(l.slots))
}

// replace frees the slice of a random slot and allocates another one for it, n times.
func (l *larsonServer) replace(slots [][]byte, n int) error {
	rnd := newRand()
	for range n {
		slot := &slots[rnd.IntN(len(slots))]
		l.heap.free(*slot)
		b := l.heap.alloc(larsonMin + rnd.IntN(larsonMax-larsonMin))
		*slot = b
		if b == nil {
			return fmt.Errorf("no memory")
		}
		b[0], b[1] = 'a', 'b'
	}
	return nil
}

// run lets a server work for d and returns how many slices were replaced.
func (l *larsonServer) run(d time.Duration) (int, error) {
	var stop atomic.Bool
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	var thread func(slots [][]byte)
	thread = func(slots [][]byte) {
		const step = 500 // replacements between checks of stop
		for range larsonLife / step {
			if err := l.replace(slots, step); err != nil {
				failed.Store(&err)
				return
			}
			done.Add(step)
			if stop.Load() {
				return
			}
		}
		wg.Go(func() { thread(slots) })
	}
	for i := range len(l.slots) / larsonSlots {
		wg.Go(func() { thread(l.slots[i*larsonSlots:][:larsonSlots]) })
	}
	time.Sleep(d)
	stop.Store(true)
	wg.Wait()
	if err := failed.Load(); err != nil {
		return int(done.Load()), *err
	}
	return int(done.Load()), nil
}

func (l *larsonServer) clean() error {
	for i, b := range l.slots {
		if b != nil {
			l.heap.free(b)
		}
		l.slots[i] = nil
	}
	return nil
}
