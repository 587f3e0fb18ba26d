package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

const (
	tick    = 50 * time.Millisecond
	period  = 20 * time.Second // of one swing of a stream, up and down
	maxHold = 1 << 20          // objects
)

// The classes of the locks of this package, the outer one first.
var (
	loadClass   = lockdep.NewClass("load_lock")
	workerClass = lockdep.NewClass("load_worker_lock")
)

// A Load keeps one allocator busy.
type Load struct {
	workers []*worker // constant
	stop    chan struct{}
	done    sync.WaitGroup

	mu   lockdep.Mutex
	off  bool    // mu: running is 0
	held *stream // mu
}

// Start creates the caches load-small and load-large, which share slabs with no
// other cache, and starts to use them and the kmalloc caches. It adds the
// directory load to module.
func Start(a *alloc.Allocator, module *sysfs.Kobject) (*Load, error) {
	small, err := a.NewCache("load-small", 100, alloc.CacheOptions{Flags: alloc.NoMerge, ShellDelete: true})
	if err != nil {
		return nil, err
	}
	large, err := a.NewCache("load-large", 3000, alloc.CacheOptions{Flags: alloc.NoMerge, ShellDelete: true})
	if err != nil {
		return nil, errors.Join(err, small.Destroy())
	}
	l := &Load{stop: make(chan struct{}), held: &stream{source: &cacheSource{a, small}}}
	l.mu.Init(loadClass)
	for i, cpu := range allowedCPUs() {
		w := &worker{cpu: cpu, random: rand.New(rand.NewPCG(uint64(i), 0))}
		w.mu.Init(workerClass)
		w.streams = []*stream{
			{source: &cacheSource{a, small}, low: 1000, high: 3000},
			{source: &cacheSource{a, large}, low: 20, high: 150},
			{source: &bytesSource{a, 8}, low: 500, high: 3000},
			{source: &bytesSource{a, 60}, low: 400, high: 3000},
			{source: &bytesSource{a, 120}, low: 100, high: 1000},
			{source: &bytesSource{a, 250}, low: 50, high: 500},
			{source: &bytesSource{a, 1000}, low: 20, high: 200},
			{source: &bytesSource{a, 4000}, low: 5, high: 50},
		}
		for j, s := range w.streams { // each starts at a different point of its swing
			s.phase = 2*math.Pi*float64(j)/float64(len(w.streams)) + float64(i)/10
			s.mark = byte(i*len(w.streams) + j)
			s.resize(s.target(time.Now()), w.random)
		}
		l.workers = append(l.workers, w)
	}
	if _, err := module.Add("load", l, attrs...); err != nil {
		l.empty()
		return nil, errors.Join(err, small.Destroy(), large.Destroy())
	}
	for _, w := range l.workers {
		l.done.Go(func() { w.run(l.stop) })
	}
	return l, nil
}

// Stop ends the work and frees all objects. The caches and the files stay.
func (l *Load) Stop() {
	close(l.stop)
	l.done.Wait()
	l.empty()
}

func (l *Load) empty() {
	for _, w := range l.workers {
		w.mu.Lock()
		for _, s := range w.streams {
			s.resize(0, w.random)
		}
		w.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held.resize(0, nil)
}

// attrs are the files of sys/module/slabfs/load.
var attrs = []*sysfs.Attribute{
	{
		Name: "running", Mode: 0o644,
		Show: func(_ context.Context, obj any, w *bytes.Buffer) error {
			_, err := fmt.Fprintln(w, obj.(*Load).running())
			return err
		},
		Store: func(_ context.Context, obj any, data []byte) error {
			n, err := sysfs.ParseUint(data, 1)
			if err == nil {
				obj.(*Load).setRunning(n == 1)
			}
			return err
		},
	},
	{
		Name: "hold", Mode: 0o644,
		Show: func(_ context.Context, obj any, w *bytes.Buffer) error {
			_, err := fmt.Fprintln(w, obj.(*Load).hold())
			return err
		},
		Store: func(_ context.Context, obj any, data []byte) error {
			n, err := sysfs.ParseUint(data, 32)
			if err != nil {
				return err
			}
			return obj.(*Load).setHold(int(n))
		},
	},
}

func (l *Load) running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return 0
	}
	return 1
}

// setRunning starts or stops the workers. It returns when every worker knows.
func (l *Load) setRunning(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = !on
	for _, w := range l.workers {
		w.mu.Lock()
		w.off = !on
		w.mu.Unlock()
	}
}

func (l *Load) hold() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held.live)
}

// setHold makes the load keep n objects. If it cannot, it changes nothing.
func (l *Load) setHold(n int) error {
	if n > maxHold {
		return fmt.Errorf("hold %d objects: %w; at most %d", n, sysfs.ErrRange, maxHold)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.held.live)
	l.held.resize(n, nil)
	if got := len(l.held.live); got < n {
		l.held.resize(min(before, got), nil)
		if l.held.gone {
			return fmt.Errorf("hold %d objects: load-small: %w", n, sysfs.ErrGone)
		}
		return fmt.Errorf("hold %d objects: could allocate only %d: %w", n, got, unix.ENOMEM)
	}
	return nil
}
