package alloc

import (
	"fmt"
	"os"
	"testing"

	"slabfs/internal/invariants"
)

// fakeCPUs makes the child process that the test is about to start take n CPUs for possible.
func fakeCPUs(t testing.TB, n int) {
	if os.Getenv(possibleEnv) == "" {
		t.Setenv(possibleEnv, fmt.Sprint("0-", n-1))
	}
}

// mostPerCPU returns how many bytes of free objects a CPU, and a barn, keep of the cache at most.
func (k *core) mostPerCPU() (sheaf, slabs, barn int64) {
	return int64(k.sheafMax) * int64(k.size), int64(1+k.keepSlabs.Load()) * int64(slabBytes(k.order)), int64(k.barnMax()) * int64(k.size)
}

// Each of many CPUs keeps what it can of each kmalloc cache: never more than the sizes of
// sheaf, barn and cpu_partial say, and the figures tell it to the byte. (Run with -v, it
// prints the table of docs/scaling.md.)
func TestPerCPUMemory(t *testing.T) {
	t.Setenv(nodesEnv, oneNode)
	for _, n := range []int{2, 16, 64, 192} {
		t.Run(fmt.Sprint("cpus=", n), func(t *testing.T) {
			fakeCPUs(t, n)
			if !inChild(t, false) {
				return
			}
			checkUse(t)
			a := newAllocator(t, Options{Engine: Lock}) // on which one thread can stand for every CPU
			idle := a.PerCPUBytes()
			checkCached(t, a)
			var sheaves, slabs, barns int64 // at most
			for _, c := range a.kmalloc {
				k := c.core
				freeOnEach(t, c)
				sheaf, slab, barn := k.mostPerCPU()
				sheaves, slabs, barns = sheaves+sheaf*int64(n), slabs+slab*int64(n), barns+barn
			}
			checkCached(t, a)
			for _, f := range []struct {
				name      string
				got, most int64
			}{{"SheafBytes", a.SheafBytes(), sheaves}, {"CPUSlabBytes", a.CPUSlabBytes(), slabs}, {"BarnBytes", a.BarnBytes(), barns}} {
				if f.got > f.most || f.got < f.most/8 {
					t.Errorf("%s = %d; want %d at most, and close to it", f.name, f.got, f.most)
				}
			}
			t.Logf("%d CPUs: %d KiB of records before use, %d with all sheaves; %d KiB on sheaves, %d in cpu slabs, %d in barns; %d KiB of slabs",
				n, idle>>10, a.PerCPUBytes()>>10, a.SheafBytes()>>10, a.CPUSlabBytes()>>10, a.BarnBytes()>>10, a.MemoryUsed()>>10)
			for _, c := range a.kmalloc {
				c.Shrink()
			}
			checkCached(t, a)
			if cached, used := a.CachedBytes(), a.MemoryUsed(); cached != 0 || used != 0 {
				t.Errorf("%d bytes cached, %d in use after a shrink of all caches", cached, used)
			}
		})
	}
}

// checkUse uses a cache on the CPUs that there really are, on both engines.
func checkUse(t *testing.T) {
	for _, engine := range []Engine{Lock, Auto} {
		a := newAllocator(t, Options{Engine: engine})
		c := newCache(t, a, "used", 64, CacheOptions{})
		workTogether(t, c, 7, scaled(40_000))
		checkCached(t, a)
		sheaf, slabs, barn := c.core.mostPerCPU()
		if n := int64(a.hotplug.Possible().Count()); a.SheafBytes() > n*sheaf || a.CPUSlabBytes() > n*slabs || a.BarnBytes() > barn {
			t.Errorf("engine %v: %d bytes on sheaves, %d in cpu slabs, %d in barns; want %d, %d, %d at most",
				a.Engine(), a.SheafBytes(), a.CPUSlabBytes(), a.BarnBytes(), n*sheaf, n*slabs, barn)
		}
		flush(t, c)
		checkCached(t, a)
		destroy(t, c)
	}
}

// freeOnEach lets every CPU there is free so many objects that its sheaf is full and it keeps as many slabs as it may.
func freeOnEach(tb testing.TB, c *Cache) {
	tb.Helper()
	k := c.core
	perCPU := k.sheafMax + (2+int(k.keepSlabs.Load()))*k.objects
	objs := allocN(tb, c, perCPU*len(k.cpus))
	flush(tb, c)
	for _, pc := range k.cpus {
		for range perCPU {
			if invariants.Enabled {
				k.takeBack(c, objs[0])
			}
			pc.mu.Lock()
			freeSlower(c, pc, objs[0]) // releases the lock
			objs = objs[1:]
		}
	}
}
