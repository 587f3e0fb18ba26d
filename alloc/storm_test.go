//go:build linux && amd64 && !race

package alloc

import (
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
	"slabfs/internal/percpu"
)

// threads returns the threads of this process.
func threads(t *testing.T) (tids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// interrupts returns actors that take sequences out of their way: signals to
// all threads, and moves from CPU to CPU. stop gives the threads all CPUs back.
func interrupts(t *testing.T) (actors []func(*rand.Rand), stop func()) {
	t.Helper()
	may := affinity(t)
	pid := unix.Getpid()
	each := func(f func(tid int, r *rand.Rand)) func(*rand.Rand) {
		return func(r *rand.Rand) {
			tids := threads(t)
			for range 20 {
				f(tids[r.IntN(len(tids))], r) // which may have ended: then nothing happens
			}
		}
	}
	move := func(tid int, cpus ...int) {
		var set unix.CPUSet
		for _, n := range cpus {
			set.Set(n)
		}
		_ = unix.SchedSetaffinity(tid, &set)
	}
	actors = []func(*rand.Rand){
		each(func(tid int, _ *rand.Rand) { _ = unix.Tgkill(pid, tid, unix.SIGURG) }),
		each(func(tid int, _ *rand.Rand) { _ = unix.Tgkill(pid, tid, unix.SIGPROF) }),
		each(func(tid int, r *rand.Rand) { move(tid, may[r.IntN(len(may))]) }),
	}
	return actors, func() {
		for before := []int(nil); ; { // a thread may begin with the CPU of the one that made it
			tids := threads(t)
			if slices.Equal(tids, before) {
				return
			}
			for _, tid := range tids {
				move(tid, may...)
			}
			before = tids
		}
	}
}

// tlbShootdowns sets what closers of sheaves do while they are closed, with the tag
// fault_mprotect_while_closed: it interrupts all CPUs and starts no sequence over.
func tlbShootdowns(t *testing.T) {
	t.Helper()
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	interrupt = func() {
		page[0] = 1
		for _, prot := range []int{unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE} {
			if err := unix.Mprotect(page, prot); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(func() {
		interrupt = func() {}
		if err := unix.Munmap(page); err != nil {
			t.Error(err)
		}
	})
}

// No object is lost or doubled on either engine, whatever happens to the threads
// and the sheaves meanwhile. CI runs it with -slabfs.ops=1000000000.
func TestStorm(t *testing.T) {
	for _, engine := range []Engine{RSeq, Lock} {
		t.Run(engine.String(), func(t *testing.T) { storm(t, engine) })
		t.Run(engine.String()+"/retune", func(t *testing.T) { storm(t, engine, retune, clearSome) })
	}
}

// storm also runs what more disturbs a cache.
func storm(t *testing.T, engine Engine, more ...func(*testing.T, *Cache, *tally) func(*rand.Rand)) {
	sequences(t, Options{}) // or skip
	a := newAllocator(t, Options{Engine: engine})
	c := newCache(t, a, "storm", 64, CacheOptions{})
	var cleared tally
	r := random(t)
	l := &ledger{tb: t}
	var x exchange
	tlbShootdowns(t)
	actors, calm := interrupts(t)
	actors = append(actors,
		func(r *rand.Rand) { // sheaves are closed and reopened back to back
			for range 1 + r.IntN(50) {
				if err := c.SetCPUPartial(r.UintN(200)); err != nil {
					t.Error(err)
				}
			}
		},
		func(r *rand.Rand) { churn(t, a, 64, r) },
		func(*rand.Rand) { runtime.GC() },
		func(*rand.Rand) { c.Shrink() },
		plug(t, a),
	)
	for _, m := range more {
		actors = append(actors, m(t, c, &cleared))
	}
	before := sum(a.Aborts())
	stop := make(chan struct{})
	wait := disturb(stop, actors...)
	goroutines := 4*runtime.GOMAXPROCS(0) + 3
	within("storm", func() {
		for first := true; first || engine == RSeq && sum(a.Aborts()) == before; first = false { // else it shows nothing
			var wg sync.WaitGroup
			for range goroutines {
				seed := r.Uint64()
				wg.Go(func() { work(c, l, &x, rand.New(rand.NewPCG(seed, 1)), scaled(*opsFlag)/goroutines) })
			}
			wg.Wait()
		}
		close(stop)
		wait()
	})
	calm()
	x.drain(c, l)
	l.check()
	checkRest(t, c, nil)
	plugAll(t, a)
	checkRest(t, c, nil)
	cleared.check(t, c, l.allocs.Load(), l.frees.Load())
	destroy(t, c)
	if n := a.Damage(); n != 0 {
		t.Errorf("%d objects could not go back to their slabs", n)
	}
	aborts := sum(a.Aborts()) - before
	t.Logf("%d objects handed out, %d sequences started over", l.allocs.Load(), aborts)
}

// Threads that do little but allocate and free, while sheaves are closed and
// reopened as fast as that goes and threads are moved from CPU to CPU: what
// finds a mistake in the sequences soonest.
func TestBackToBack(t *testing.T) {
	a := sequences(t, Options{})
	c := newCache(t, a, "back", 64, CacheOptions{})
	backToBack(t, c, c.Alloc, c.Free, retuned(c))
	destroy(t, c)
}

// Slices have sequences of their own.
func TestBytesBackToBack(t *testing.T) {
	a := sequences(t, Options{})
	c := a.bySize[64/8].cache
	backToBack(t, c, func() unsafe.Pointer {
		return unsafe.Pointer(unsafe.SliceData(a.Bytes(64)))
	}, func(obj unsafe.Pointer) {
		a.FreeBytes(bytesAt(obj, 64))
	}, retuned(c))
}

// retuned closes the sheaves for a moment.
func retuned(c *Cache) func(int) error { return func(int) error { return c.SetCPUPartial(0) } }

// The same with CPUs that come and go.
func TestOfflineBackToBack(t *testing.T) {
	may := affinity(t)
	if len(may) < 2 {
		t.Skip("one CPU only")
	}
	a := sequences(t, Options{})
	c := newCache(t, a, "back", 64, CacheOptions{})
	backToBack(t, c, c.Alloc, c.Free, func(i int) error {
		n := may[i%len(may)]
		err := a.SetOnline(n, false)
		for end := i * 37 % 500; end > 0; end-- { // so that threads meet it while it is offline, and while it is online
			runtime.Gosched()
		}
		return errors.Join(err, a.SetOnline(n, true))
	})
	destroy(t, c)
}

// backToBack runs calls that take objects of c and give them back.
func backToBack(t *testing.T, c *Cache, take func() unsafe.Pointer, give func(unsafe.Pointer), closeSheaves func(i int) error) {
	a := c.core.a
	tlbShootdowns(t)
	r := random(t)
	workers := 2 * runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers + 2)) // so that the kernel lets all run in turn, and each alone for some time
	actors, calm := interrupts(t)
	stop := make(chan struct{})
	drains := 0
	wait := disturb(stop, actors[len(actors)-1], func(*rand.Rand) {
		if err := closeSheaves(drains); err != nil {
			t.Error(err)
		}
		drains++
	})
	var doubled atomic.Int64
	bad := func() bool { return doubled.Load() > 0 || a.Damage() > 0 } // the sooner this ends
	var wg sync.WaitGroup
	for range workers {
		seed := r.Uint64()
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			var held [8]*uint64
			for n := scaled(*opsFlag) / 64; n > 0 && !bad(); n-- {
				objs := held[:1+r.IntN(len(held))]
				for i := range objs {
					objs[i] = (*uint64)(take())
					if atomic.SwapUint64(objs[i], liveMark) == liveMark {
						doubled.Add(1)
					}
				}
				for range r.IntN(2000) { // so that a call begins while the sheaves are closed
				}
				for _, obj := range objs {
					atomic.StoreUint64(obj, freeMark)
					give(unsafe.Pointer(obj))
				}
			}
		})
	}
	within("back to back", wg.Wait)
	close(stop)
	wait()
	calm()
	if n := doubled.Load(); n > 0 {
		t.Errorf("%d objects were handed out twice", n)
	}
	t.Logf("%d drains, %d sequences started over", drains, sum(a.Aborts()))
	if n := a.Damage(); n > 0 {
		t.Errorf("%d objects could not go back to their slabs", n)
	}
	checkRest(t, c, nil)
}

// While a cache is destroyed, goroutines allocate from it. Its place goes to the
// next one that wants one, which fills the sheaves of all CPUs at once, as the
// lock engine may. No call for the old cache finds objects of the heir.
func TestHeir(t *testing.T) {
	a := sequences(t, Options{})
	r := random(t)
	other := newCache(t, a, "other", 64, CacheOptions{})
	obj := other.Alloc()
	defer other.Free(obj)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2))
	var foreign atomic.Int64
	inherited := 0
	for round := 0; round < scaled(*opsFlag)/5000 && foreign.Load() == 0; round++ {
		c := newCache(t, a, "old", 64, CacheOptions{ShellDelete: true})
		capacity := c.core.sheafMax
		var wg, begun sync.WaitGroup
		begun.Add(runtime.NumCPU())
		for range runtime.NumCPU() {
			seed := r.Uint64()
			wg.Go(func() {
				defer func() { _ = recover() }() // the cache was destroyed
				r := rand.New(rand.NewPCG(seed, 1))
				c.Free(c.Alloc())
				begun.Done()
				for {
					for range r.IntN(10_000) { // so that a call begins while the sheaves are closed
					}
					obj := c.Alloc()
					if p, ok := pages.Of(obj); !ok || pages.Owner(p) != c.number {
						foreign.Add(1)
						return
					}
					c.Free(obj)
				}
			})
		}
		begun.Wait()
		for err := ErrBusy; errors.Is(err, ErrBusy); {
			err = a.DestroyName("old")
		}
		place, err := percpu.NewPlace(capacity)
		if err != nil {
			t.Fatal(err)
		}
		if place == c.core.place {
			inherited++
		}
		for n := range cpu.Possible().All() {
			area := percpu.At(place, n)
			area.Open(capacity)
			for area.Push(obj) {
			}
		}
		wg.Wait()
		percpu.FreePlace(place, capacity, cpu.Possible())
	}
	if foreign.Load() > 0 {
		t.Error("a destroyed cache handed out an object of another one")
	}
	if inherited == 0 {
		t.Error("nobody got the place of a destroyed cache")
	}
	t.Logf("%d places inherited", inherited)
}
