//go:build linux && amd64 && !race

package alloc

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
)

// On a machine with 192 possible CPUs with gaps between their numbers, of which
// two run this, memory is paid for where objects were freed: caches that are used, looked at,
// flushed and destroyed touch no area of another CPU.
func TestSparseCPUs(t *testing.T) {
	if os.Getenv(possibleEnv) == "" {
		mask := cpu.MaskOf(0, 1)
		for n := 2; mask.Count() < 192; n += 3 {
			mask.Set(n)
		}
		t.Setenv(possibleEnv, mask.String())
	}
	if !inChild(t, false) {
		return
	}
	for _, engine := range []Engine{Lock, Auto} {
		a := newAllocator(t, Options{Engine: engine})
		c := newCache(t, a, "sparse", 64, CacheOptions{})
		l := &ledger{tb: t}
		var x exchange
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() { work(c, l, &x, rand.New(rand.NewPCG(uint64(g), 3)), 100_000) })
		}
		wg.Wait()
		x.drain(c, l)
		l.check()
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

// resident reports whether there is memory behind an address.
func resident(t *testing.T, p unsafe.Pointer) bool {
	t.Helper()
	var in [1]byte
	page := uintptr(p) &^ (pages.Size - 1)
	if _, _, e := unix.RawSyscall(unix.SYS_MINCORE, page, pages.Size, uintptr(unsafe.Pointer(&in))); e != 0 {
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
