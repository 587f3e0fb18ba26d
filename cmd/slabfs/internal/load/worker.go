package load

import (
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
)

// A worker allocates and frees on one CPU.
type worker struct {
	cpu    int
	random *rand.Rand // mu

	mu      lockdep.Mutex
	off     bool      // mu: the worker rests
	streams []*stream // mu
}

func (w *worker) run(stop <-chan struct{}) {
	cpu.Aside(func() { w.runBound(stop) })
}

// runBound works on a thread that belongs to this worker.
func (w *worker) runBound(stop <-chan struct{}) {
	var one unix.CPUSet
	one.Set(w.cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		slog.Debug("the load is not bound to its CPU", "cpu", w.cpu, "error", err)
	}
	for ticker := time.NewTicker(tick); ; {
		select {
		case now := <-ticker.C:
			w.work(now)
		case <-stop:
			ticker.Stop()
			return
		}
	}
}

func (w *worker) work(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		return
	}
	for _, s := range w.streams {
		target := s.target(now)
		s.resize(target+target/4, w.random) // for most streams, more than a sheaf and the barn hold
		s.resize(target, w.random)
	}
}

// allowedCPUs returns the CPUs that this process may run on.
func allowedCPUs() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return []int{0}
	}
	var cpus []int
	for n := range len(set) * 64 {
		if set.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	return cpus
}

// A source allocates and frees objects.
type source interface {
	alloc() (b []byte, gone bool) // nil at the memory limit; gone: there will be no more
	free(b []byte)
}

// A stream is a changing number of objects from one source.
type stream struct {
	source    source
	low, high int     // objects
	phase     float64 // of the swing between them
	mark      byte    // written to both ends of each object
	live      [][]byte
	gone      bool // the cache was destroyed
}

// target returns how many objects there should be now.
func (s *stream) target(now time.Time) int {
	swing := math.Sin(s.phase + 2*math.Pi*now.Sub(time.Unix(0, 0)).Seconds()/period.Seconds())
	return s.low + int(float64(s.high-s.low)*(1+swing)/2)
}

// resize frees or allocates until n objects are live, or until no more can be
// allocated. It frees objects at random; with a nil random, it frees the
// newest.
func (s *stream) resize(n int, random *rand.Rand) {
	for len(s.live) > max(n, 0) {
		last := len(s.live) - 1
		i := last
		if random != nil {
			i = random.IntN(last + 1)
		}
		b := s.live[i]
		s.live[i] = s.live[last]
		s.live[last] = nil
		s.live = s.live[:last]
		if b[0] != s.mark || b[len(b)-1] != s.mark {
			slog.Error("the load found an object that somebody else changed", "first", b[0], "last", b[len(b)-1], "want", s.mark)
		}
		s.source.free(b)
	}
	for len(s.live) < n && !s.gone {
		b, gone := s.source.alloc()
		if b == nil {
			s.gone = gone
			return
		}
		b[0], b[len(b)-1] = s.mark, s.mark
		s.live = append(s.live, b)
	}
}

type bytesSource struct {
	a    *alloc.Allocator
	size int
}

func (s *bytesSource) alloc() ([]byte, bool) { return s.a.Bytes(s.size), false }
func (s *bytesSource) free(b []byte)         { s.a.FreeBytes(b) }
