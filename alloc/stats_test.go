package alloc

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/invariants"
	"slabfs/internal/pages"
	"slabfs/internal/percpu"
)

// slabsOf makes n slabs without touching their objects' memory, and returns one
// object of each.
func slabsOf(tb testing.TB, c *Cache, n int) []unsafe.Pointer {
	tb.Helper()
	objs := make([]unsafe.Pointer, n)
	for i := range objs {
		obj, err := c.core.newSlab(c, c.core.here().node)
		if err != nil {
			tb.Fatal(err)
		}
		objs[i] = c.core.handOut(obj)
	}
	return objs
}

// Descriptors, page tables and bitmaps take at most so much of the slabs, in percent, for objects of
// that size in a process of its own: they are those of the process.
func TestMetadataIsSmall(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the invariants build keeps a second bitmap for each slab")
	}
	t.Setenv(nodesEnv, oneNode)
	for _, tc := range []struct {
		size, order int
		most        float64
	}{{64, 0, 0.8}, {256, 0, 0.8}, {512, 1, 0.4}, {1024, 2, 0.4}, {4096, 3, 0.4}} {
		t.Run(fmt.Sprint("size=", tc.size), func(t *testing.T) {
			fakeCPUs(t, 2) // on which the order depends
			if !inChild(t, false) {
				return
			}
			a := newAllocator(t, Options{})
			c := newCache(t, a, "many", tc.size, CacheOptions{})
			if c.core.order != tc.order {
				t.Fatalf("objects of %d bytes lie in slabs of order %d; want %d", tc.size, c.core.order, tc.order)
			}
			objs := slabsOf(t, c, scaled(1<<30)/slabBytes(tc.order))
			used, meta := a.MemoryUsed(), a.MetadataBytes()
			meta -= int64(6 * (pages.SystemPage() - pages.Size)) // the edges of three tables
			if percent := 100 * float64(meta) / float64(used); percent > tc.most || percent < tc.most/2 {
				t.Errorf("%d bytes of metadata for %d bytes of slabs, %.2f %%; want at most %v %%", meta, used, percent, tc.most)
			}
			freeAll(c, objs)
			destroy(t, c)
		})
	}
}

// checkCached compares the figures of what CPUs and barns keep with a walk over all of it,
// while nobody uses the allocator.
func checkCached(t *testing.T, a *Allocator) {
	t.Helper()
	var sheaves, barns, slabs, own int64
	for _, k := range *a.cores.Load() {
		own += int64(len(k.cpus)) * wordSize
		for _, n := range k.nodes {
			own += int64(cap(n.barn)) * wordSize
			barns += int64(len(n.barn)) * int64(k.size)
		}
		for _, pc := range k.cpus {
			if pc == nil {
				continue
			}
			own += int64(unsafe.Sizeof(*pc))
			if pc.open.Load() {
				own += int64(percpu.Bytes(k.sheafMax))
			}
			sheaves += int64(pc.area.Level()) * int64(k.size)
			for p := pc.slabs.head; p != 0; p = slabAt(p).next {
				slabs += int64(k.freeIn(slabAt(p))) * int64(k.size)
			}
		}
	}
	for _, f := range []struct {
		name      string
		got, want int64
	}{
		{"SheafBytes", a.SheafBytes(), sheaves}, {"BarnBytes", a.BarnBytes(), barns}, {"CPUSlabBytes", a.CPUSlabBytes(), slabs},
		{"CachedBytes", a.CachedBytes(), sheaves + barns + slabs}, {"PerCPUBytes", a.PerCPUBytes(), own},
	} {
		if f.got != f.want {
			t.Errorf("%s = %d; want %d", f.name, f.got, f.want)
		}
	}
}

func TestStats(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "stats", 100, CacheOptions{Align: 16, Flags: ReclaimAccount})
	s := c.Stats()
	if s.ObjectSize != 100 || s.Size != 112 || s.Align != 16 || s.Order != 0 || s.ObjectsPerSlab != 36 || s.SheafCapacity != 60 ||
		s.UserSize != 0 || s.Flags != ReclaimAccount || s.Ctor != nil || s.Aliases != 0 || len(s.Nodes) != len(cpu.Nodes()) || len(s.CPUs) != 0 {
		t.Errorf("Stats of a new cache: %+v", s)
	}
	checkRest(t, c, nil)
	mapped, cached := a.MemoryMapped(), a.CachedBytes()
	if mapped%pages.Size != 0 || cached != 0 {
		t.Errorf("%d bytes mapped, %d cached, with nothing in use", mapped, cached)
	}
	objs := allocN(t, c, 1000)
	checkRest(t, c, objs)
	s = c.Stats()
	if got, want := a.MemoryUsed(), int64(s.Slabs)*pages.Size; got != want || a.MemoryMapped() < got {
		t.Errorf("%d bytes in use, %d mapped; want %d", got, a.MemoryMapped(), want)
	}
	checkCached(t, a)
	if got := a.CachedBytes(); got == 0 || got%112 != 0 {
		t.Errorf("%d bytes cached; want some objects of 112 bytes", got)
	}
	flush(t, c)
	if got := a.CachedBytes(); got != 0 {
		t.Errorf("%d bytes cached after a flush", got)
	}
	freeAll(c, objs)
	checkRest(t, c, nil)
	areas := a.areas.Load()
	destroy(t, c)
	if got := a.areas.Load(); got >= areas || got < 0 {
		t.Errorf("%d bytes of sheaves before Destroy, %d after", areas, got)
	}
}

// Alloc, Free and their like leave nothing to the garbage collector.
func TestNoGoMemory(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the invariants build may allocate")
	}
	a := newAllocator(t, Options{})
	c := newCache(t, a, "none", 64, CacheOptions{})
	bulk := make([]unsafe.Pointer, 500)
	deep := make([]unsafe.Pointer, 0, 5000)
	freeAll(c, allocN(t, c, 5000)) // the barn has its room from here on
	for name, f := range map[string]func(){
		"pair":      func() { c.Free(c.Alloc()) },
		"zeroed":    func() { c.Free(c.AllocZeroed()) },
		"bulk":      func() { c.AllocBulk(bulk); c.FreeBulk(bulk) },
		"bytes":     func() { a.FreeBytes(a.Bytes(100)) },
		"deep":      func() { deep = deepPairs(c, deep) },
		"stats off": func() { _ = a.MemoryUsed(); _ = a.CachedBytes() },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v Go allocations each; want 0", name, n)
		}
	}
}

// deepPairs allocates as many objects as fit into buf, and frees them.
func deepPairs(c *Cache, buf []unsafe.Pointer) []unsafe.Pointer {
	for len(buf) < cap(buf) {
		buf = append(buf, c.Alloc())
	}
	freeAll(c, buf)
	return buf[:0]
}

// The collector's work does not grow with objects: they are not its.
func TestCollectorSeesNothing(t *testing.T) {
	if pages.GoMemory {
		t.Skip("in this build objects are Go memory")
	}
	a := newAllocator(t, Options{})
	c := newCache(t, a, "large", 4096, CacheOptions{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	objs := make([]unsafe.Pointer, 25_600) // 100 MiB
	if !c.AllocBulk(objs) {
		t.Fatal("AllocBulk failed")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 4<<20 {
		t.Errorf("the Go heap has grown by %d bytes with %d bytes of objects", grown, len(objs)*4096)
	}
	c.FreeBulk(objs)
}

// BenchmarkStats holds that Stats costs the same with ten slabs and with a million.
func BenchmarkStats(b *testing.B) {
	for _, n := range []struct {
		name  string
		slabs int
	}{{"slabs=10", 10}, {"slabs=1000000", 1_000_000}} {
		b.Run(n.name, func(b *testing.B) {
			a := newAllocator(b, Options{})
			c := newCache(b, a, "stats", 64, CacheOptions{})
			objs := slabsOf(b, c, n.slabs)
			for b.Loop() {
				if c.Stats().Objects != n.slabs {
					b.Fatal("objects are miscounted")
				}
			}
			c.FreeBulk(objs)
		})
	}
}
