//go:build !race

package alloc

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/pages"
)

// residentBytes returns how much memory the system has put behind the addresses from the first of
// some objects to the last, in whole system pages, which may be made-up ones.
func residentBytes(t testing.TB, objs []unsafe.Pointer) (sum int64) {
	t.Helper()
	byAddress := func(p, q unsafe.Pointer) int { return cmp.Compare(uintptr(p), uintptr(q)) }
	first := uintptr(slices.MinFunc(objs, byAddress)) &^ (2<<20 - 1)
	last := uintptr(slices.MaxFunc(objs, byAddress)) | (2<<20 - 1)
	in := make([]byte, (last-first)/uintptr(os.Getpagesize())+1)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, first, last-first, uintptr(unsafe.Pointer(&in[0]))); e != 0 {
		t.Fatalf("mincore: %v", e)
	}
	for whole := range slices.Chunk(in, pages.SystemPage()/os.Getpagesize()) {
		if slices.ContainsFunc(whole, func(b byte) bool { return b&1 != 0 }) {
			sum += int64(pages.SystemPage())
		}
	}
	return sum
}

// touched returns n objects of 64 bytes that were written to.
func touched(t testing.TB, c *Cache, n int) []unsafe.Pointer {
	t.Helper()
	objs := allocN(t, c, n)
	for i, obj := range objs {
		stamp(bytesAt(obj, 64), uint64(i))
	}
	return objs
}

// The memory of slabs that are empty leaves the process when shrink is written, however much is
// kept of others, with huge pages or without.
func TestShrinkReturns(t *testing.T) {
	for _, tc := range []struct {
		name string
		huge bool
		keep func(i, n int) bool // whether object i of n, in order of allocation, is kept
		most float64             // of all slabs that may have an object in use
	}{
		{"first 90%", false, func(i, n int) bool { return i >= n*9/10 }, 0.11},
		{"last 90%", false, func(i, n int) bool { return i < n/10 }, 0.11},
		{"all but every thousandth", false, func(i, n int) bool { return i%1000 == 0 }, 0.11},
		{"first 90% of huge pages", true, func(i, n int) bool { return i >= n*9/10 }, 0.11},
	} {
		for _, engine := range []Engine{Lock, Auto} {
			t.Run(fmt.Sprintf("%s/engine=%v", strings.NewReplacer(" ", "_", "%", "").Replace(tc.name), engine), func(t *testing.T) {
				if !inChild(t, false) {
					return
				}
				a := newAllocator(t, Options{Engine: engine, HugePages: tc.huge})
				c := newCache(t, a, "shrink", 64, CacheOptions{})
				objs := touched(t, c, 1<<20)
				if got := residentBytes(t, objs); got < 64<<20 {
					t.Fatalf("%d bytes are resident with 64 MiB in use", got)
				}
				var kept []unsafe.Pointer
				for i, obj := range objs {
					if tc.keep(i, len(objs)) {
						kept = append(kept, obj)
						continue
					}
					c.Free(obj)
				}
				c.Shrink()
				full := int64(len(objs)) * 64
				used := int64(c.Stats().Slabs) * pages.Size
				if float64(used) > tc.most*float64(full) {
					t.Errorf("%d bytes of slabs after a shrink, for %d objects", used, len(kept))
				}
				shared := make(map[uintptr]bool) // system pages with an object in use
				for _, obj := range kept {
					shared[uintptr(obj)/uintptr(pages.SystemPage())] = true
				}
				most := max(used, int64(len(shared)*pages.SystemPage())) + (full-used)/20
				if got := residentBytes(t, objs); got < used || got > most {
					t.Errorf("%d bytes are resident after a shrink, %d of them in use; want %d at most", got, used, most)
				}
				for i, j := 0, 0; j < len(kept); i++ {
					if objs[i] == kept[j] {
						if !stamped(bytesAt(kept[j], 64), uint64(i)) {
							t.Fatalf("object %d lost its content", i)
						}
						j++
					}
				}
				freeAll(c, kept)
				c.Shrink()
				if got := residentBytes(t, objs); got != 0 {
					t.Errorf("%d bytes are resident with nothing in use", got)
				}
			})
		}
	}
}

// With huge pages memory comes in them, and MemoryMapped knows.
func TestHugePages(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	a := newAllocator(t, Options{})
	if got := a.HugePages(); got != "system" {
		t.Errorf("HugePages() = %q at first; want system", got)
	}
	if err := a.SetHugePages(true); errors.Is(err, ErrNotBuilt) {
		t.Skip(err)
	} else if err != nil || a.HugePages() != "always" {
		t.Fatalf("SetHugePages(true): %v; it is %q", err, a.HugePages())
	}
	c := newCache(t, a, "huge", 64, CacheOptions{})
	objs := touched(t, c, 1<<20)
	if got, most := residentBytes(t, objs), a.MemoryMapped(); got < 64<<20 || got > most {
		t.Errorf("%d bytes are resident; MemoryMapped says %d", got, most)
	}
	mapping := hugeMapping(t, 16<<20)
	touchPages(mapping)
	if ours, plain := hugeBytes(t, objs[0]), hugeBytes(t, unsafe.Pointer(&mapping[0])); ours == 0 && plain > 0 {
		t.Errorf("not one huge page; a plain mapping has %d bytes of them", plain)
	}
	freeAll(c, objs)
	c.Shrink()
	if err := a.SetHugePages(false); err != nil || a.HugePages() != "never" {
		t.Fatalf("SetHugePages(false): %v; it is %q", err, a.HugePages())
	}
	objs = touched(t, c, 1<<18)
	if got := hugeBytes(t, objs[0]); got != 0 {
		t.Errorf("%d bytes of huge pages, and there are to be none", got)
	}
	if got, want := residentBytes(t, objs), a.MemoryMapped(); got != want {
		t.Errorf("%d bytes are resident; MemoryMapped says %d", got, want)
	}
	freeAll(c, objs)
}

// hugeBytes returns how many bytes of huge pages the mapping has that an address lies in.
func hugeBytes(t testing.TB, p unsafe.Pointer) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	within := false
	for line := range strings.Lines(string(text)) {
		var begin, end uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &begin, &end); n == 2 {
			within = begin <= uintptr(p) && uintptr(p) < end
		}
		if n, _ := fmt.Sscanf(line, "AnonHugePages: %d kB", &kib); within && n == 1 {
			return kib << 10
		}
	}
	t.Fatalf("no mapping has address %p", p)
	return 0
}

// Programs that free and allocate all the time keep their memory: a call of madvise for 100,000
// frees at most. When they rest, what they do not use goes.
func TestChurnReturnsLittle(t *testing.T) {
	for _, tc := range []struct {
		name  string
		churn func(r *rand.Rand, c *Cache, objs []unsafe.Pointer) (frees uint64)
	}{
		{"replace", replaceRandom}, {"waves", freeAndRefill},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !inChild(t, false) {
				return
			}
			r := random(t)
			a := newAllocator(t, Options{})
			c := newCache(t, a, "churn", 64, CacheOptions{})
			objs := touched(t, c, 1<<20)
			before := a.MemoryReturns()
			frees := uint64(0)
			for range 20 { // a period each, as far as the pages can tell
				frees += tc.churn(r, c, objs)
				pages.ReturnIdle(0, giveAbove, keepFree)
			}
			if calls := a.MemoryReturns() - before; calls > frees/100_000 {
				t.Errorf("%d frees led to %d calls of madvise", frees, calls)
			}
			c.SetMinPartial(0) // a slab that is kept keeps a huge page, and each node would keep some
			freeAll(c, objs)
			if err := c.SetCPUPartial(0); err != nil {
				t.Error(err)
			}
			deadline := time.Now().Add(*deadlineFlag) // for the work item, which comes every second
			got := residentBytes(t, objs)
			for got > giveAbove && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
				got = residentBytes(t, objs)
			}
			if got > giveAbove {
				t.Errorf("%d bytes are resident long after all was freed", got)
			}
		})
	}
}

// replaceRandom frees objects anywhere and allocates others for them.
func replaceRandom(r *rand.Rand, c *Cache, objs []unsafe.Pointer) (frees uint64) {
	for range len(objs) / 4 {
		i := r.IntN(len(objs))
		c.Free(objs[i])
		objs[i] = c.Alloc()
		frees++
	}
	return frees
}

// freeAndRefill frees most of the objects, and then allocates as many.
func freeAndRefill(_ *rand.Rand, c *Cache, objs []unsafe.Pointer) (frees uint64) {
	most := objs[len(objs)/8:]
	freeAll(c, most)
	for i := range most {
		most[i] = c.Alloc()
	}
	return uint64(len(most))
}

// hugeMapping returns so many bytes that nobody has touched, in huge pages.
func hugeMapping(b testing.TB, n uintptr) []byte {
	b.Helper()
	all, err := unix.MmapPtr(-1, 0, nil, n+2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.MunmapPtr(all, n+2<<20) })
	mapping := unsafe.Slice((*byte)(unsafe.Add(all, -uintptr(all)&(2<<20-1))), n)
	if err := unix.Madvise(mapping, unix.MADV_HUGEPAGE); err != nil {
		b.Skip("no huge pages:", err)
	}
	return mapping
}

// touchPages writes to each page of a buffer.
func touchPages(buf []byte) {
	for i := 0; i < len(buf); i += pages.Size {
		buf[i] = 1
	}
}

// BenchmarkGrow tells what memory costs that objects need for the first time, per 4 KiB: what it
// takes to allocate and touch 64 MiB of objects in new slabs (new), less what it takes when
// the cache has the slabs already (old), as a ratio to the fault of a plain mapping of huge
// pages. All three in turn.
func BenchmarkGrow(b *testing.B) {
	const total = 64 << 20
	mapping := hugeMapping(b, total)
	a := newAllocator(b, Options{})
	for _, huge := range []bool{true, false} {
		for _, size := range []int{64, 512, 1024, 4096, 1 << 20} {
			b.Run(fmt.Sprintf("huge=%v/object=%d", huge, size), func(b *testing.B) {
				if err := a.SetHugePages(huge); err != nil {
					b.Skip(err)
				}
				c := newCache(b, a, "grow", size, CacheOptions{})
				c.SetMinPartial(math.MaxInt64) // slabs stay until Shrink
				objs := make([]unsafe.Pointer, total/size)
				fill := func() {
					for i := range objs {
						objs[i] = c.Alloc()
						touchPages(bytesAt(objs[i], size))
					}
				}
				var fault, fresh, old []float64
				cost := func(to *[]float64, f func()) {
					begin := time.Now()
					f()
					*to = append(*to, float64(time.Since(begin).Nanoseconds())/(total/pages.Size))
				}
				for b.Loop() {
					cost(&fault, func() { touchPages(mapping) })
					if err := unix.Madvise(mapping, unix.MADV_DONTNEED); err != nil {
						b.Fatal(err)
					}
					cost(&fresh, fill)
					freeAll(c, objs)
					cost(&old, fill)
					freeAll(c, objs)
					c.Shrink()
				}
				median := func(x []float64) float64 {
					slices.Sort(x)
					return x[len(x)/2]
				}
				b.ReportMetric(median(fault), "fault-ns/4KiB")
				b.ReportMetric(median(fresh), "new-ns/4KiB")
				b.ReportMetric(median(old), "old-ns/4KiB")
				b.ReportMetric((median(fresh)-median(old))/median(fault), "ratio")
				destroy(b, c)
			})
		}
	}
}

// BenchmarkReturn tells what a shrink gives back of 64 MiB of objects, of which nine in ten were freed
// in order of allocation: how much of the empty slabs' memory leaves the process, at what
// cost for 4 KiB.
func BenchmarkReturn(b *testing.B) {
	a := newAllocator(b, Options{})
	for _, huge := range []bool{true, false} {
		b.Run(fmt.Sprint("huge=", huge), func(b *testing.B) {
			if err := a.SetHugePages(huge); err != nil {
				b.Skip(err)
			}
			c := newCache(b, a, "return", 64, CacheOptions{})
			var took time.Duration
			var empty, gone int64
			calls := a.MemoryReturns()
			for b.Loop() {
				objs := touched(b, c, 1<<20)
				before := residentBytes(b, objs)
				freed := objs[:len(objs)*9/10]
				freeAll(c, freed)
				begin := time.Now()
				c.Shrink()
				took += time.Since(begin)
				empty += before - int64(c.Stats().Slabs)*pages.Size
				gone += before - residentBytes(b, objs)
				freeAll(c, objs[len(freed):])
			}
			b.ReportMetric(100*float64(gone)/float64(empty), "%gone")
			b.ReportMetric(float64(took.Nanoseconds())/float64(gone/pages.Size), "ns/4KiB")
			b.ReportMetric(float64(a.MemoryReturns()-calls)/float64(b.N), "madvise/op")
			destroy(b, c)
		})
	}
}

// BenchmarkChurn counts how often memory goes back while a program frees and allocates all
// the time, with 64 MiB of objects at most.
func BenchmarkChurn(b *testing.B) {
	for name, churn := range map[string]func(*rand.Rand, *Cache, []unsafe.Pointer) uint64{"replace": replaceRandom, "waves": freeAndRefill} {
		b.Run(name, func(b *testing.B) {
			a := newAllocator(b, Options{})
			c := newCache(b, a, "churn", 64, CacheOptions{})
			objs := touched(b, c, 1<<20)
			r := rand.New(rand.NewPCG(1, 1))
			calls, frees := a.MemoryReturns(), uint64(0)
			for b.Loop() {
				frees += churn(r, c, objs)
			}
			b.ReportMetric(1e5*float64(a.MemoryReturns()-calls)/float64(frees), "madvise/100k-frees")
			freeAll(c, objs)
			destroy(b, c)
		})
	}
}
