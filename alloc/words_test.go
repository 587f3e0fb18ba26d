package alloc

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"slabfs/internal/pages"
)

const askNil = "Free of nil: did Alloc return nil at the limit?"

// nil is no object, and every Free says so before it takes anything. A nil slice
// has no objects.
func TestFreeNil(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		points := newPoints(t, a)
		c := points.Cache()
		obj := c.Alloc()
		for op, free := range map[string]func(){
			"Free":           func() { c.Free(nil) },
			"Typed.Free":     func() { points.Free(nil) },
			"FreeRef":        func() { points.FreeRef(Ref[point]{}) },
			"FreeBulk":       func() { c.FreeBulk([]unsafe.Pointer{nil}) },
			"FreeBulk last":  func() { c.FreeBulk([]unsafe.Pointer{obj, nil}) },
			"FreeBulk first": func() { c.FreeBulk([]unsafe.Pointer{nil, obj}) },
			"Local.Free":     func() { points.Local().Free(nil) },
		} {
			t.Run(op, func(t *testing.T) { mustPanic(t, free, `cache "point": `+askNil) })
		}
		checkUnlocked(a)
		checkRest(t, c, []unsafe.Pointer{obj})
		c.FreeBulk(nil)
		c.FreeBulk([]unsafe.Pointer{})
		a.FreeBytes(nil)
		c.Free(obj)
		checkRest(t, c, nil)
	})
}

// A Free of what another cache owns tells the name of that cache.
func TestOwnerIsNamed(t *testing.T) {
	a, b := newAllocator(t, Options{Merge: true}), newAllocator(t, Options{})
	c := newCache(t, a, "mine", 64, CacheOptions{Flags: NoMerge})
	own := c.Alloc()
	other := newCache(t, a, "other", 64, CacheOptions{Flags: NoMerge})
	shared := newCache(t, a, "shared", 24, CacheOptions{})
	newCache(t, a, "younger", 24, CacheOptions{})
	theirs := newCache(t, b, "theirs", 64, CacheOptions{})
	objs := map[*Cache]unsafe.Pointer{other: other.Alloc(), shared: shared.Alloc(), theirs: theirs.Alloc()}
	small, large, theirLarge := a.Bytes(100), a.Bytes(20_000), b.Bytes(20_000)
	for _, tc := range []struct {
		obj unsafe.Pointer
		why string
	}{
		{objs[other], `belongs to another cache, "other"`},
		{objs[shared], `belongs to another cache, "shared"`},
		{objs[theirs], `belongs to another cache, "theirs" of another allocator`},
		{unsafe.Pointer(&small[0]), `belongs to another cache, "kmalloc-128"`},
		{unsafe.Pointer(&large[0]), "lies in whole pages that Bytes returned"},
		{unsafe.Pointer(&theirLarge[5000]), "lies in whole pages that Bytes of another allocator returned"},
		{unsafe.Pointer(new([64]byte)), "no allocator handed out"},
	} {
		mustPanic(t, func() { c.Free(tc.obj) }, `slabfs: cache "mine": Free of `, "which "+tc.why)
		mustPanic(t, func() { c.FreeBulk([]unsafe.Pointer{own, tc.obj}) }, `slabfs: cache "mine": Free of `, "which "+tc.why)
	}
	mustPanic(t, func() { a.FreeBytes(bytesAt(objs[theirs], 64)) }, `which belongs to another cache, "theirs" of another allocator: did append move it?`)
	mustPanic(t, func() { a.FreeBytes(bytesAt(objs[other], 1<<14)) }, `which Bytes did not return and which belongs to another cache, "other": `)
	for c, obj := range objs {
		c.Free(obj)
	}
	a.FreeBytes(small)
	a.FreeBytes(large)
	b.FreeBytes(theirLarge)
	c.Free(own)
}

// When the other cache is destroyed, its pages are nobody's: also those that wait
// for a grace period.
func TestDeadOwner(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "mine", 64, CacheOptions{})
	for _, flags := range []Flags{0, TypesafeByRCU} {
		gone := newCache(t, a, "gone", 64, CacheOptions{Flags: flags})
		stale := gone.Alloc()
		gone.Free(stale)
		section := a.RCU().ReadLock()
		destroy(t, gone)
		mustPanic(t, func() { c.Free(stale) }, "which no cache holds now, since it was freed or its cache was destroyed")
		a.RCU().ReadUnlock(section)
		mustPanic(t, func() { gone.Free(stale) }, `Free on cache "gone" after its Destroy`)
	}
}

// Without sheaves each object goes to its slab, and what is wrong with it is found
// at once, by FreeBulk as by Free.
func TestFreeSays(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		c := newCache(t, a, "c", 96, CacheOptions{})
		if err := c.SetSheafCapacity(0); err != nil {
			t.Fatal(err)
		}
		live, free := c.Alloc(), c.Alloc()
		c.Free(free)
		slab := pages.At(c.core.slabOf(live))
		tail := unsafe.Add(slab, c.core.objects*96)
		for _, tc := range []struct {
			obj unsafe.Pointer
			why string
		}{
			{free, "which is free already"},
			{unsafe.Add(live, 40), "which points into an object, 40 bytes behind its begin"},
			{tail, "which lies behind the last object of its slab"},
			{unsafe.Add(tail, 17), "which lies behind the last object of its slab"},
		} {
			want := fmt.Sprintf(`slabfs: cache "c": Free of %p, %s`, tc.obj, tc.why)
			mustPanic(t, func() { c.Free(tc.obj) }, want)
			checkUnlocked(a)
			mustPanic(t, func() { c.FreeBulk([]unsafe.Pointer{tc.obj}) }, want)
			checkUnlocked(a)
			checkRest(t, c, []unsafe.Pointer{live})
		}
		c.Free(live)
		checkRest(t, c, nil)
		if a.Damage() != 0 {
			t.Errorf("damage of %d objects, of which each caller has heard; want 0", a.Damage())
		}
	})
}

// A kmalloc cache's own handle speaks of itself, and not of FreeBytes.
func TestKmallocHandle(t *testing.T) {
	a := newAllocator(t, Options{})
	var local [64]byte
	for _, c := range a.Caches() {
		for _, obj := range []unsafe.Pointer{nil, unsafe.Pointer(&local), unsafe.Add(pages.At(0), 8)} {
			for _, free := range []func(){func() { c.Free(obj) }, func() { c.FreeBulk([]unsafe.Pointer{obj}) }} {
				mustPanic(t, func() {
					defer func() {
						p := fmt.Sprint(recover())
						if strings.Contains(p, "Bytes") {
							t.Errorf("Free of %p: %s", obj, p)
						}
						panic(p)
					}()
					free()
				}, fmt.Sprintf(`slabfs: cache %q: Free of `, c.Name()))
			}
		}
	}
}

// Bytes of an allocator that is closed tells which, and of one whose cache the
// program has destroyed, which cache.
func TestBytesAfterClose(t *testing.T) {
	for _, engine := range []Engine{Auto, Lock} {
		a, err := New(Options{Engine: engine})
		_, file, line, _ := runtime.Caller(0)
		if err != nil {
			t.Fatal(err)
		}
		small, large := a.Bytes(64), a.Bytes(20_000)
		a.FreeBytes(small)
		a.FreeBytes(large)
		gone := a.Caches()[0]
		destroy(t, gone)
		mustPanic(t, func() { a.Bytes(3) }, `slabfs: Bytes on cache "kmalloc-8" after its Destroy`)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 8, 100, 8192, 8193, 1 << 20} {
			mustPanic(t, func() { a.Bytes(n) }, fmt.Sprintf("slabfs: Bytes after Close of the allocator that was made at %s:%d", file, line-1))
		}
		for _, b := range [][]byte{small, large} {
			mustPanic(t, func() { a.FreeBytes(b) }, fmt.Sprintf("slabfs: FreeBytes after Close of the allocator that was made at %s:%d", file, line-1))
		}
		a.FreeBytes(nil)
	}
}

// What nil handles are asked for is a panic of this goroutine, and never the end of
// the program.
func TestNilHandles(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	useNilHandles(t) // before the first New of the process
	newAllocator(t, Options{})
	useNilHandles(t)
}

func useNilHandles(t *testing.T) {
	t.Helper()
	var a *Allocator
	var c *Cache
	var points *Typed[point]
	calls := map[string]func(){
		"Free":        func() { c.Free(unsafe.Pointer(&a)) },
		"FreeBulk":    func() { c.FreeBulk([]unsafe.Pointer{unsafe.Pointer(&a)}) },
		"Alloc":       func() { c.Alloc() },
		"AllocZeroed": func() { c.AllocZeroed() },
		"AllocBulk":   func() { c.AllocBulk(make([]unsafe.Pointer, 3)) },
		"Destroy":     func() { _ = c.Destroy() },
		"Typed.Alloc": func() { points.Alloc() },
		"Typed.Free":  func() { points.Free(new(point)) },
		"NewCache":    func() { _, _ = a.NewCache("c", 64, CacheOptions{}) },
		"Close":       func() { _ = a.Close() },
	}
	for n := 1; n <= 64<<10; n += n {
		for _, n := range []int{n - 1, n, n + 1} {
			calls[fmt.Sprintf("Bytes(%d)", n)] = func() { a.Bytes(n) }
			calls[fmt.Sprintf("FreeBytes of %d", n)] = func() { a.FreeBytes(make([]byte, n+1)[:0:n]) }
		}
	}
	for op, call := range calls {
		mustPanic(t, func() {
			defer func() {
				if _, ok := reflect.ValueOf(recover()).Interface().(runtime.Error); !ok {
					t.Errorf("%s: no runtime.Error", op)
				}
				panic("nil")
			}()
			call()
		}, "nil")
	}
}

// String tells unknown values apart from all others.
func TestStrings(t *testing.T) {
	for _, tc := range []struct {
		value fmt.Stringer
		want  string
	}{
		{Auto, "auto"}, {RSeq, "rseq"}, {Lock, "lock"}, {Lock + 1, "Engine(3)"}, {Engine(255), "Engine(255)"},
		{AllocFastpath, "alloc_fastpath"}, {BarnPutFail, "barn_put_fail"}, {numEvents, "Event(26)"}, {Event(255), "Event(255)"},
	} {
		if got := tc.value.String(); got != tc.want {
			t.Errorf("String of %#v = %q; want %q", tc.value, got, tc.want)
		}
	}
}
