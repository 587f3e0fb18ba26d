package alloc

import (
	"errors"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
)

// Values of a Linux 6.18 with two CPUs.
func TestKmallocLayout(t *testing.T) {
	a := newAllocator(t, Options{})
	linux := []struct {
		name                              string
		order, objects, align, minPartial int
		cpuPartial                        uint
	}{
		{"kmalloc-8", 0, 512, 8, 5, 120}, {"kmalloc-16", 0, 256, 16, 5, 120}, {"kmalloc-32", 0, 128, 32, 5, 120},
		{"kmalloc-64", 0, 64, 64, 5, 120}, {"kmalloc-96", 0, 42, 32, 5, 120}, {"kmalloc-128", 0, 32, 128, 5, 120},
		{"kmalloc-192", 0, 21, 64, 5, 120}, {"kmalloc-256", 0, 16, 256, 5, 52}, {"kmalloc-512", 1, 16, 512, 5, 52},
		{"kmalloc-1k", 2, 16, 1024, 5, 24}, {"kmalloc-2k", 3, 16, 2048, 5, 24}, {"kmalloc-4k", 3, 8, 4096, 6, 6},
		{"kmalloc-8k", 3, 4, 8192, 6, 6},
	}
	caches := a.Caches()
	if len(caches) != len(linux) {
		t.Fatalf("%d caches; want %d", len(caches), len(linux))
	}
	for i, want := range linux {
		c := caches[i]
		s := c.Stats()
		if s.Size != kmallocSizes[i].bytes || s.ObjectSize != s.Size || s.UserSize != s.Size {
			t.Errorf("%s: size %d, object size %d, user size %d; want %d", c.Name(), s.Size, s.ObjectSize, s.UserSize, kmallocSizes[i].bytes)
		}
		// A page's alignment is the most that a cache can have; a slab of 8k
		// objects begins at a multiple of 8k all the same.
		l := newLayout(s.ObjectSize, min(want.align, pages.Size), 0, 2)
		if c.Name() != want.name || l.order != want.order || l.objects != want.objects || s.Align != min(want.align, pages.Size) ||
			int(c.MinPartial()) != want.minPartial || c.CPUPartial() != want.cpuPartial {
			t.Errorf("%s: order %d, %d objects, align %d, min_partial %d, cpu_partial %d; want %+v",
				c.Name(), l.order, l.objects, s.Align, c.MinPartial(), c.CPUPartial(), want)
		}
	}
	for _, class := range kmallocSizes {
		b := a.Bytes(class.bytes)
		if align := class.bytes & -class.bytes; uint64(address(b))%uint64(align) != 0 {
			t.Errorf("Bytes(%d) lies at %#x; want a multiple of %d", class.bytes, address(b), align)
		}
		a.FreeBytes(b)
	}
}

func TestClassOf(t *testing.T) {
	for n := 0; n <= maxKmalloc; n++ {
		want := 0
		for kmallocSizes[want].bytes < n {
			want++
		}
		if got := classOf(n); got != want {
			t.Fatalf("classOf(%d) = %d; want %d", n, got, want)
		}
	}
}

func TestAlignment(t *testing.T) {
	for _, tc := range []struct {
		size, align int
		flags       Flags
		want        int
	}{
		{1, 0, 0, 8}, {616, 0, 0, 8}, {616, 16, 0, 16}, {616, 1, 0, 8}, {100, 4096, 0, 4096},
		{184, 0, HWCacheAlign, 64}, {33, 0, HWCacheAlign, 64}, {32, 0, HWCacheAlign, 32}, {17, 0, HWCacheAlign, 32},
		{16, 0, HWCacheAlign, 16}, {9, 0, HWCacheAlign, 16}, {8, 0, HWCacheAlign, 8}, {1, 0, HWCacheAlign, 8},
		{16, 128, HWCacheAlign, 128}, {200, 16, HWCacheAlign, 64},
	} {
		if got := calculateAlignment(tc.size, tc.align, tc.flags); got != tc.want {
			t.Errorf("calculateAlignment(%d, %d, %#x) = %d; want %d", tc.size, tc.align, tc.flags, got, tc.want)
		}
	}
}

// Every size has a layout that fits, for every alignment and number of CPUs.
func TestLayouts(t *testing.T) {
	sizes := []int{maxSize - 1, maxSize}
	for size := 1; size < maxSize; size += 1 + size/97 {
		sizes = append(sizes, size)
	}
	for order := 3; order < 22; order++ {
		sizes = append(sizes, 1<<order-1, 1<<order, 1<<order+1)
	}
	for _, size := range sizes {
		for align := 0; align <= pages.Size; align = max(align*2, 1) {
			for _, cpus := range []int{1, 2, 3, 64, 8192} {
				for _, flags := range []Flags{0, HWCacheAlign} {
					l := newLayout(size, align, flags, cpus)
					rest := slabBytes(l.order) - l.objects*int(l.size)
					if int(l.size) < size || l.order < 0 || l.order > pages.MaxOrder || l.objects < 1 || rest < 0 || rest >= int(l.size) ||
						l.words*64 < l.objects || l.objects > 1<<16-1 || l.words > 1024 || l.size%l.align != 0 || int(l.align) < align ||
						bits.OnesCount32(l.align) != 1 || l.sheafMax < 1 || pages.Size%l.align != 0 {
						t.Fatalf("newLayout(%d, %d, %#x, %d) = %+v, %d bytes left", size, align, flags, cpus, l, rest)
					}
					if l.order > preferOrder && orderOf(int(l.size)) != l.order {
						t.Fatalf("newLayout(%d, %d, %#x, %d) = %+v: a smaller slab would do", size, align, flags, cpus, l)
					}
				}
			}
		}
	}
}

// Objects lie where their layout says: aligned, apart, inside their slab.
func TestObjectPlaces(t *testing.T) {
	a := newAllocator(t, Options{})
	for _, tc := range []struct {
		size, align int
		flags       Flags
	}{
		{1, 0, 0}, {8, 0, 0}, {24, 16, 0}, {100, 0, HWCacheAlign}, {300, 256, 0}, {4000, 4096, 0}, {5000, 0, 0},
		{40_000, 64, 0}, {1 << 20, 0, 0}, {maxSize - 1, 0, HWCacheAlign}, {maxSize, 4096, 0},
	} {
		c := newCache(t, a, "places", tc.size, CacheOptions{Align: tc.align, Flags: tc.flags})
		k := c.core
		objs := allocN(t, c, k.objects+1)
		for i, obj := range objs {
			if uintptr(obj)%uintptr(k.align) != 0 {
				t.Errorf("size %d, align %d: object at %p", tc.size, tc.align, obj)
			}
			stamp(bytesAt(obj, tc.size), uint64(i)+1)
		}
		for i, obj := range objs {
			if !stamped(bytesAt(obj, tc.size), uint64(i)+1) {
				t.Errorf("size %d, align %d: object %d is overwritten", tc.size, tc.align, i)
			}
		}
		checkRest(t, c, objs)
		freeAll(c, objs)
		checkRest(t, c, nil)
		destroy(t, c)
	}
}

func TestNewCacheRefuses(t *testing.T) {
	a := newAllocator(t, Options{})
	long := strings.Repeat("x", maxName)
	for _, tc := range []struct {
		name string
		size int
		o    CacheOptions
		want error
	}{
		{"a", 1, CacheOptions{}, nil},
		{long, maxSize, CacheOptions{Align: pages.Size, Flags: HWCacheAlign | ReclaimAccount | NoMerge}, nil},
		{"-", 1, CacheOptions{Align: 1}, nil},
		{"A.b_C-9", 8, CacheOptions{}, nil},
		{"", 8, CacheOptions{}, ErrInvalid},
		{long + "x", 8, CacheOptions{}, ErrInvalid},
		{".a", 8, CacheOptions{}, ErrInvalid},
		{"..", 8, CacheOptions{}, ErrInvalid},
		{"a b", 8, CacheOptions{}, ErrInvalid},
		{"a/b", 8, CacheOptions{}, ErrInvalid},
		{"a\x00", 8, CacheOptions{}, ErrInvalid},
		{"ä", 8, CacheOptions{}, ErrInvalid},
		{":a-0000024", 8, CacheOptions{}, ErrInvalid},
		{"s", 0, CacheOptions{}, ErrInvalid},
		{"s", -1, CacheOptions{}, ErrInvalid},
		{"s", maxSize + 1, CacheOptions{}, ErrInvalid},
		{"s", 8, CacheOptions{Align: -8}, ErrInvalid},
		{"s", 8, CacheOptions{Align: 24}, ErrInvalid},
		{"s", 8, CacheOptions{Align: 2 * pages.Size}, ErrInvalid},
		{"s", 8, CacheOptions{Flags: allFlags + 1}, ErrInvalid},
		{"kmalloc-8", 8, CacheOptions{}, ErrExist},
	} {
		before := len(a.Caches())
		c, err := a.NewCache(tc.name, tc.size, tc.o)
		if !errors.Is(err, tc.want) || (c == nil) != (err != nil) {
			t.Errorf("NewCache(%q, %d, %+v) = %v, %v; want %v", tc.name, tc.size, tc.o, c, err, tc.want)
		}
		if err == nil {
			if c.Name() != tc.name || c.ObjectSize() != tc.size {
				t.Errorf("NewCache(%q, %d) = %q, %d bytes", tc.name, tc.size, c.Name(), c.ObjectSize())
			}
			destroy(t, c)
		} else if !strings.HasPrefix(err.Error(), "create cache "+strconv.Quote(tc.name)+": ") {
			t.Errorf("NewCache(%q): %q does not begin with the operation", tc.name, err)
		}
		if n := len(a.Caches()); n != before {
			t.Errorf("NewCache(%q) left %d caches more", tc.name, n-before)
		}
	}
}

func TestNew(t *testing.T) {
	newAllocator(t, Options{})
	best, forced, none := RSeq, RSeq, error(nil)
	if err := startSequences(); err != nil { // internal/rseq tests where they have to be there
		t.Logf("engine lock: %v", err)
		best, forced, none = Lock, Auto, ErrNotBuilt
	}
	for _, tc := range []struct {
		o      Options
		env    string
		engine Engine
		want   error
	}{
		{Options{}, "", best, nil},
		{Options{Engine: Lock}, "", Lock, nil},
		{Options{}, "lock", Lock, nil},
		{Options{Engine: Lock}, "rseq", Lock, nil},
		{Options{Engine: RSeq}, "lock", forced, none},
		{Options{}, "rseq", forced, none},
		{Options{}, "fast", 0, ErrInvalid},
		{Options{Engine: 9}, "", 0, ErrInvalid},
		{Options{MemoryLimit: -1}, "", 0, ErrInvalid},
	} {
		t.Setenv("SLABFS_PERCPU", tc.env)
		a, err := New(tc.o)
		if !errors.Is(err, tc.want) || (a == nil) != (err != nil) {
			t.Errorf("New(%+v) with SLABFS_PERCPU=%q = %p, %v; want %v", tc.o, tc.env, a, err, tc.want)
		}
		if err != nil {
			continue
		}
		if a.Engine() != tc.engine {
			t.Errorf("New(%+v) with SLABFS_PERCPU=%q has engine %v; want %v", tc.o, tc.env, a.Engine(), tc.engine)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	for e, want := range map[Engine]string{Auto: "auto", RSeq: "rseq", Lock: "lock"} {
		if got := e.String(); got != want {
			t.Errorf("Engine(%d) is %q; want %q", e, got, want)
		}
	}
}

// The kernel's plain caches have the layout that it calculated, and so have ours.
func TestLayoutAsKernel(t *testing.T) {
	const dir = "/sys/kernel/slab"
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no %s: the kernel shows no slabs", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue // links lead to the same caches
		}
		number := func(file string) int {
			text, err := os.ReadFile(filepath.Join(dir, e.Name(), file))
			if errors.Is(err, os.ErrPermission) {
				t.Skipf("%v: the files of %s can be read by root only", err, dir)
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				return -1
			}
			return n
		}
		size, align, objectSize := number("slab_size"), number("align"), number("object_size")
		plain := align > 0 && align <= pages.Size && (objectSize+align-1)&^(align-1) == size
		for _, file := range []string{"red_zone", "poison", "store_user", "sanity_checks", "trace", "destroy_by_rcu"} {
			plain = plain && number(file) <= 0
		}
		if !plain {
			continue
		}
		l := newLayout(objectSize, align, 0, cpu.Present().Count())
		if l.order != number("order") || l.objects != number("objs_per_slab") {
			t.Errorf("%s, size %d: order %d, %d objects; the kernel has %d, %d", e.Name(), size, l.order, l.objects, number("order"), number("objs_per_slab"))
		}
		compared++
	}
	if compared == 0 {
		t.Errorf("none of %d entries of %s is a plain cache", len(entries), dir)
	}
	t.Logf("%d caches compared", compared)
}

// put and putOne against one object at a time in a map: neighbours upwards and downwards, runs across
// words, objects that are free already, named twice, or no objects, and those of other slabs.
func TestPut(t *testing.T) {
	newAllocator(t, Options{})
	r := random(t)
	layouts := []layout{{size: 2040, inverse: 1<<inverseShift/2040 + 1, order: 6, pages: 64, bytes: 64 * pages.Size, objects: 128, words: 2}} // the rest would be of a third word
	for _, size := range []int{8, 56, 64, 300, 4096} {
		layouts = append(layouts, newLayout(size, 0, 0, 2))
	}
	for _, l := range layouts {
		size := uintptr(l.size)
		p, err := pages.Alloc(l.order, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.initSlab(p); err != nil {
			t.Fatal(err)
		}
		s, base := slabAt(p), uintptr(pages.At(p))
		at := func(i int) uintptr { return base + uintptr(i)*size }
		free := make(map[uintptr]bool)
		for round := range 2000 {
			var all [1024]uintptr
			for _, obj := range all[:l.take(p, all[:])] {
				delete(free, obj)
			}
			if len(free) > 0 || l.freeIn(s) > 0 {
				t.Fatalf("size %d, round %d: %d objects are left, %d by count", size, round, len(free), l.freeIn(s))
			}
			var objs []uintptr
			for range 1 + r.IntN(6) {
				i, n := r.IntN(l.objects), r.IntN(100)
				switch r.IntN(8) {
				case 0, 1:
					for j := i; j < min(i+n, l.objects+r.IntN(3)); j++ { // may go on behind the slab
						objs = append(objs, at(j))
					}
				case 2, 3:
					for j := i; j >= max(i-n, -r.IntN(3)); j-- {
						objs = append(objs, at(j))
					}
				case 4:
					objs = append(objs, at(i)+1+uintptr(r.IntN(int(size)-1)), at(i)+size/2)
				case 5:
					objs = append(objs, at(l.objects)) // what is left of the slab, or behind it
				default:
					objs = append(objs, at(i))
				}
			}
			for len(objs) > 0 {
				if objs[0]-base >= l.bytes {
					objs = objs[1:]
					continue
				}
				here, n := 0, 0
				for here < len(objs) && objs[here]-base < l.bytes {
					if obj := objs[here]; (obj-base)%size == 0 && obj < at(l.objects) && !free[obj] {
						free[obj] = true
						n++
					}
					here++
				}
				gotHere, got := 1, 0
				if here > 1 || r.IntN(2) == 0 {
					gotHere, got = l.put(p, objs)
				} else {
					got = l.putOne(p, objs[0])
				}
				if gotHere != here || got != n || l.freeIn(s) != len(free) {
					t.Fatalf("size %d, round %d: %d of the first %d put, %d free; want %d of %d, %d", size, round, got, gotHere, l.freeIn(s), n, here, len(free))
				}
				objs = objs[here:]
			}
			var got [1024]uintptr
			n := l.take(p, got[:])
			if n != len(free) || slices.ContainsFunc(got[:n], func(obj uintptr) bool { return !free[obj] }) {
				t.Fatalf("size %d, round %d: %d are free: %x; want %d: %x", size, round, n, got[:n], len(free), slices.Sorted(maps.Keys(free)))
			}
			for _, obj := range got[:n] {
				if l.putOne(p, obj) != 1 || l.putOne(p, obj) != 0 {
					t.Fatalf("size %d, round %d: an object is not put once", size, round)
				}
			}
		}
		l.exitSlab(p)
		pages.Free(p, l.order)
	}
}
