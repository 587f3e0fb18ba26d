//go:build linux && amd64 && !race

package alloc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// On a machine with 192 possible CPUs with gaps between their numbers, of which
// two run this, memory is paid for where objects were freed: caches that are used, looked at,
// flushed and destroyed touch no area of another CPU.
func TestSparseCPUs(t *testing.T) {
	if !onSparseCPUs(t) {
		return
	}
	for _, engine := range []Engine{Lock, Auto} {
		a := newAllocator(t, Options{Engine: engine})
		c := newCache(t, a, "sparse", 64, CacheOptions{})
		workTogether(t, c, 3, 100_000)
		flush(t, c)
		a.CachedBytes()
		a.MetadataBytes()
		k := c.core
		opened := 0
		for n, pc := range k.cpus {
			if pc == nil {
				continue
			}
			open := pc.open.Load()
			if got := resident(t, unsafe.Pointer(pc.area)); got != open {
				t.Errorf("engine %v, CPU %d: the area was opened: %v, there is memory: %v", a.Engine(), n, open, got)
			}
			if open {
				opened++
			}
		}
		if s := c.Stats(); opened == 0 || opened > len(affinity(t)) || s.Objects != 0 {
			t.Errorf("engine %v: %d areas were opened, %d objects are live", a.Engine(), opened, s.Objects)
		}
		t.Logf("engine %v: %d of %d areas opened, limit of CPU numbers %d", a.Engine(), opened, cpu.Possible().Count(), cpu.Possible().Limit())
		destroy(t, c)
	}
}

// onSparseCPUs runs the test again where 192 CPUs are possible, and reports true there.
func onSparseCPUs(t *testing.T) bool {
	t.Helper()
	if os.Getenv(possibleEnv) == "" {
		mask := cpu.MaskOf(0, 1)
		for n := 2; mask.Count() < 192; n += 3 {
			mask.Set(n)
		}
		t.Setenv(possibleEnv, mask.String())
	}
	return inChild(t, false)
}

// On a machine with many possible CPUs those that nothing ran on come and go without
// costing memory.
func TestOfflineSparse(t *testing.T) {
	if !onSparseCPUs(t) {
		return
	}
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "sparse", 64, CacheOptions{})
		possible := slices.Collect(a.Hotplug().Possible().All())
		may := affinity(t) // where threads run, and open areas
		for _, last := range []int{0, 1, possible[100], possible[len(possible)-1]} {
			plugAll(t, a)
			for _, n := range possible {
				if n != last {
					setOnline(t, a, n, false)
				}
			}
			if err := a.SetOnline(last, false); !errors.Is(err, ErrBusy) {
				t.Errorf("SetOnline of the last CPU: %v; want ErrBusy", err)
			}
			late := newCache(t, a, "late", 64, CacheOptions{})
			freeAll(c, allocN(t, c, 1000)) // and no walk, which would look at all areas
			freeAll(late, allocN(t, late, 1000))
			flush(t, c)
			if s := c.Stats(); s.Objects != 0 || s.Cached != 0 {
				t.Errorf("%+v", s)
			}
			destroy(t, late)
		}
		if err := a.SetOnline(3, true); !errors.Is(err, ErrNotExist) {
			t.Errorf("SetOnline of a CPU between the possible ones: %v; want ErrNotExist", err)
		}
		for n, pc := range c.core.cpus {
			if pc != nil && !slices.Contains(may, n) && (pc.open.Load() || resident(t, unsafe.Pointer(pc.area))) {
				t.Errorf("CPU %d, where no thread runs: the area was opened: %v, or there is memory behind it", n, pc.open.Load())
			}
		}
		destroy(t, c)
	})
}

// A thread on a CPU that the mask does not know, whose area would lie behind
// the last region, takes the slow path.
func TestCPUBeyondMask(t *testing.T) {
	if os.Getenv(possibleEnv) == "" {
		t.Setenv(possibleEnv, "0")
	}
	if !inChild(t, false) {
		return
	}
	beyond := slices.Max(affinity(t))
	if beyond == 0 {
		t.Skip("CPU 0 is the only one")
	}
	// The kernel places mappings below each other, so behind the regions nothing can be touched.
	if err := pages.Reserve(); err != nil {
		t.Fatal(err)
	}
	guard, err := unix.Mmap(-1, 0, 1<<percpu.Shift, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	a := sequences(t, Options{})
	if end := uintptr(unsafe.Pointer(percpu.At(0, 1))); end != uintptr(unsafe.Pointer(unsafe.SliceData(guard))) {
		t.Logf("behind the regions, at %#x, lies something else than at %p", end, unsafe.SliceData(guard))
	}
	c := newCache(t, a, "beyond", 64, CacheOptions{})
	for _, n := range []int{0, beyond} {
		pinned(t, n, func() {
			objs := allocN(t, c, 1000)
			for _, obj := range objs {
				stamp(bytesAt(obj, 64), uint64(n))
			}
			freeAll(c, objs)
		})
	}
	checkRest(t, c, nil)
	destroy(t, c)
}

// A thread that cannot register is served by the slow path, on whatever CPU it is.
func TestUnregisteredThread(t *testing.T) {
	a := sequences(t, Options{})
	c := newCache(t, a, "unregistered", 64, CacheOptions{})
	mine, err := unix.MmapPtr(-1, 0, nil, pages.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON) // for good
	if err != nil {
		t.Fatal(err)
	}
	if rseq.Offset != 0 {
		t.Skip("a C library registers the threads")
	}
	before := a.Unregistered()
	for registered := true; registered; {
		done := make(chan bool)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends
			if _, _, e := unix.RawSyscall6(unix.SYS_RSEQ, uintptr(mine), 32, 0, rseq.Sig, 0, 0); e != 0 {
				done <- true // it has an area already
				return
			}
			objs := allocN(t, c, 1000)
			checkRest(t, c, objs)
			freeAll(c, objs)
			bulk := make([]unsafe.Pointer, 1000)
			c.AllocBulk(bulk)
			c.FreeBulk(bulk)
			checkRest(t, c, nil)
			done <- false
		}()
		registered = <-done
	}
	if n := a.Unregistered() - before; n != 1 {
		t.Errorf("%d threads could not register; want 1", n)
	}
	destroy(t, c)
}

// resident reports whether there is memory behind an address.
func resident(t *testing.T, p unsafe.Pointer) bool {
	t.Helper()
	var in [1]byte
	page := uintptr(p) &^ (uintptr(os.Getpagesize()) - 1)
	if _, _, e := unix.RawSyscall(unix.SYS_MINCORE, page, 1, uintptr(unsafe.Pointer(&in))); e != 0 {
		t.Fatal(fmt.Errorf("mincore: %w", e))
	}
	return in[0]&1 != 0
}

// affinity returns the CPUs that this thread may use.
func affinity(t *testing.T) (cpus []int) {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for n := range len(may) * 64 {
		if may.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	return cpus
}
