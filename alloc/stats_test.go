package alloc

import (
	"runtime"
	"testing"
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// slabsOf makes n slabs without touching their objects' memory, and returns one
// object of each.
func slabsOf(tb testing.TB, c *Cache, n int) []unsafe.Pointer {
	tb.Helper()
	objs := make([]unsafe.Pointer, n)
	for i := range objs {
		obj, err := c.core.newSlab(c)
		if err != nil {
			tb.Fatal(err)
		}
		objs[i] = c.core.handOut(obj)
	}
	return objs
}

// Descriptors, page tables and sheaves take at most a hundredth of the slabs.
func TestMetadataIsSmall(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the invariants build keeps a second bitmap for each slab")
	}
	if !inChild(t, false) { // page tables are those of the process
		return
	}
	const slabs = 1 << 30 >> pages.Shift
	a := newAllocator(t, Options{})
	for _, size := range []int{64, 256} {
		c := newCache(t, a, "many", size, CacheOptions{})
		objs := slabsOf(t, c, slabs)
		for _, obj := range objs[:100] {
			stamp(bytesAt(obj, size), 1)
		}
		if used, meta := a.MemoryUsed(), a.MetadataBytes(); used != 1<<30 || meta > used/100 || meta < used/1000 {
			t.Errorf("%d bytes of metadata for %d bytes of slabs; want at most 1%%", meta, used)
		}
		freeAll(c, objs)
		destroy(t, c)
	}
}

func TestStats(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "stats", 100, CacheOptions{Align: 16, Flags: ReclaimAccount})
	s := c.Stats()
	if s.ObjectSize != 100 || s.Size != 112 || s.Align != 16 || s.Order != 0 || s.ObjectsPerSlab != 36 || s.SheafCapacity != 60 ||
		s.UserSize != 0 || s.Flags != ReclaimAccount || s.Ctor != nil || s.Aliases != 0 || len(s.Nodes) != 1 || len(s.CPUs) != 0 {
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
	var sum int64
	for _, pc := range c.core.cpus {
		if pc != nil {
			sum += int64(pc.area.Level())
		}
	}
	sum += c.core.node.inBarn.Load() + c.core.node.cpuFree.Load()
	if got := a.CachedBytes(); got != sum*112 || got == 0 {
		t.Errorf("%d bytes cached; want %d objects of 112 bytes", got, sum)
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
