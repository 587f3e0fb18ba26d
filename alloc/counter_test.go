package alloc

import (
	"sync/atomic"
	"testing"
)

// While its one writer works, a reader of a counter or a gauge sees whole values
// only, wherever in a struct they lie, and a counter never goes down.
func TestCounters(t *testing.T) {
	var s struct {
		_ uint32
		c counter
		_ uint32
		g gauge
	}
	const step = 1<<31 - 1 // carries from the low half to the high one
	const up = int64(0x0123456701234567)
	const down = ^up
	const rounds = 1 << 20
	s.g.Store(up)
	var done atomic.Bool
	go func() {
		defer done.Store(true)
		for i := range rounds {
			s.c.add(step)
			if i%2 == 0 {
				s.g.Store(down)
			} else {
				s.g.Add(up - down)
			}
		}
	}()
	for last := uint64(0); !done.Load(); {
		if v := s.g.Load(); v != up && v != down {
			t.Fatalf("gauge = %#x; want %#x or %#x", v, up, down)
		}
		v := s.c.load()
		if v < last || v%step != 0 {
			t.Fatalf("counter = %#x after %#x; want multiples of %#x that grow", v, last, step)
		}
		last = v
	}
	if v := s.c.load(); v != rounds*step {
		t.Errorf("counter = %d after %d additions of %d", v, rounds, step)
	}
}

// BenchmarkCounter is what counter.go compares: an addition by the only writer.
func BenchmarkCounter(b *testing.B) {
	var c counter
	var n atomic.Uint64
	for _, way := range []struct {
		name string
		add  func()
	}{
		{"counter", func() { c.add(3) }},
		{"atomic.Add", func() { n.Add(3) }},
		{"atomic.Store", func() { n.Store(n.Load() + 3) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				for range 100 {
					way.add()
				}
			}
		})
	}
}
