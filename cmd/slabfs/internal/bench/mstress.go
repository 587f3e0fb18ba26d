package bench

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// mstress (Leijen, test-stress of mimalloc, 2018): threads allocate, keep, free
// and exchange blocks of many sizes, a few of them huge. Threads end, and
// others take their place. Each word of a block is written, and the thread that
// frees the block checks every word. If a block was allocated twice, or
// somebody else wrote to it, the run ends with an error. This is a test of
// correctness; its author says that its time means little.
var mstress = &workload{
	name: "mstress", what: "blocks of many sizes move from goroutine to goroutine, and each word is checked when a block is freed; time per block",
	units: []unit{nsPerOp}, phase: heavy, shared: true,
	slices: true,
	open: func(e *env) (*cell, error) {
		h := e.bytes()
		c := &cell{destroy: h.close}
		c.measure = func(time.Duration) ([]float64, error) {
			s := &stress{heap: h}
			began := time.Now()
			err := s.run(e.Goroutines, min(stressBlocks, e.Objects))
			c.n = int(s.made.Load())
			if freed := s.freed.Load(); err == nil && freed != s.made.Load() {
				err = fmt.Errorf("%d blocks were allocated and %d freed", c.n, freed)
			}
			return []float64{float64(time.Since(began)) / float64(c.n)}, err
		}
		return c, nil
	},
}

const (
	stressRounds = 25
	stressBlocks = 100 * 50 // blocks of the first thread in a round; the second has twice as many, and so on
	stressSlots  = 1000
	stressCookie = 0xbf58476d1ce4e5b9
)

type stress struct {
	heap   bytesHeap
	slots  [stressSlots]atomic.Pointer[block]
	made   atomic.Int64
	freed  atomic.Int64
	failed atomic.Pointer[error]
}

// The words of a block count down to 1, each combined with the block's cookie,
// so no two blocks look the same.
type block struct {
	b      []byte
	cookie uint64
}

func (s *stress) alloc(rnd *rand.Rand, words int) *block {
	switch p := rnd.IntN(10_000); {
	case p < 1:
		words *= 10_000
	case p < 10:
		words *= 1000
	case p < 100:
		words *= 100
	}
	b := s.heap.alloc(8 * words)
	if b == nil {
		err := fmt.Errorf("no memory for %d bytes", 8*words)
		s.failed.Store(&err)
		return nil
	}
	cookie := uint64(s.made.Add(1)) * stressCookie
	for i, w := 0, wordsOf(b); i < len(w); i++ {
		w[i] = uint64(len(w)-i) ^ cookie
	}
	return &block{b, cookie}
}

func (s *stress) free(b *block) {
	if b == nil {
		return
	}
	for i, w := 0, wordsOf(b.b); i < len(w); i++ {
		if w[i]^b.cookie != uint64(len(w)-i) {
			err := fmt.Errorf("word %d of a block of %d is %#x: somebody else wrote to it", i, len(w), w[i])
			s.failed.CompareAndSwap(nil, &err)
			break
		}
	}
	s.heap.free(b.b)
	s.freed.Add(1)
}

// thread is the life of one thread.
func (s *stress) thread(blocks int) {
	rnd := newRand()
	var data, retained []*block
	for left, retain := blocks, blocks/2; left > 0 || retain > 0; {
		if s.failed.Load() != nil {
			break
		}
		if retain == 0 || left > 0 && rnd.IntN(100) < 50 {
			left--
			data = append(data, s.alloc(rnd, 1<<rnd.IntN(5)))
		} else {
			retain--
			retained = append(retained, s.alloc(rnd, 1<<rnd.IntN(7)))
		}
		if len(data) > 0 && rnd.IntN(100) < 66 {
			i := rnd.IntN(len(data))
			s.free(data[i])
			data[i] = nil
		}
		if len(data) > 0 && rnd.IntN(100) < 25 {
			i := rnd.IntN(len(data))
			data[i] = s.slots[rnd.IntN(len(s.slots))].Swap(data[i])
		}
	}
	for _, b := range append(data, retained...) {
		s.free(b)
	}
}

// run lets threads come and go, and frees the remaining blocks.
func (s *stress) run(threads, blocks int) error {
	for round := range stressRounds {
		var wg sync.WaitGroup
		for t := range threads {
			wg.Go(func() { s.thread(blocks * (t%8 + 1)) })
		}
		wg.Wait()
		for i := round % 2; i < len(s.slots); i += 2 {
			s.free(s.slots[i].Swap(nil))
		}
	}
	for i := range s.slots {
		s.free(s.slots[i].Swap(nil))
	}
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}
