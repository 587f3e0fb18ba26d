package alloc

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// A Free of what is no object of the cache panics at once, says why, and changes nothing.
func TestFreeRefuses(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "mine", 64, CacheOptions{})
	d := newCache(t, a, "other", 64, CacheOptions{})
	gone := newCache(t, a, "gone", 64, CacheOptions{})
	objs := allocN(t, c, 200)
	other := d.Alloc()
	stale := gone.Alloc()
	gone.Free(stale)
	destroy(t, gone)
	pages.Return(0) // stale points to nothing now
	var local [64]byte
	run := a.Bytes(20_000)
	for _, tc := range []struct {
		name string
		obj  unsafe.Pointer
		why  string
	}{
		{"nil", nil, "nil: did Alloc return nil at the limit?"},
		{"of the Go heap", unsafe.Pointer(&local), "which no allocator handed out"},
		{"of another cache", other, "which belongs to another cache"},
		{"of a destroyed cache", stale, "which"},
		{"of Bytes", unsafe.Pointer(unsafe.SliceData(run)), "which"},
		{"in page 0", pages.At(0), "which no cache holds"},
	} {
		for op, free := range map[string]func(){
			"Free":           func() { c.Free(tc.obj) },
			"FreeBulk":       func() { c.FreeBulk([]unsafe.Pointer{tc.obj}) },
			"FreeBulk last":  func() { c.FreeBulk(append(objs[:200:200], tc.obj)) },
			"FreeBulk first": func() { c.FreeBulk([]unsafe.Pointer{tc.obj, objs[0]}) },
		} {
			t.Run(tc.name+" "+op, func(t *testing.T) {
				mustPanic(t, free, `slabfs: cache "mine": Free of `, tc.why)
				checkUnlocked(a)
				checkRest(t, c, objs) // nothing was taken
				checkRest(t, d, []unsafe.Pointer{other})
			})
		}
	}
	a.FreeBytes(run)
	freeAll(c, objs)
	d.Free(other)
	flush(t, c)
	checkRest(t, c, nil)
	if a.Damage() != 0 {
		t.Errorf("%d objects damaged", a.Damage())
	}
}

// With the invariants build every wrong Free is found at once, and changes nothing.
func TestFreeRefusesAtOnce(t *testing.T) {
	if !invariants.Enabled {
		t.Skip("this build has no invariants (build tag)")
	}
	a := newAllocator(t, Options{})
	c := newCache(t, a, "mine", 24, CacheOptions{})
	objs := allocN(t, c, 300)
	freed, live := objs[:100], objs[100:]
	freeAll(c, freed)
	for _, tc := range []struct {
		name string
		obj  unsafe.Pointer
		why  string
	}{
		{"interior", unsafe.Add(live[0], 1), "points into an object"},
		{"interior, at a word", unsafe.Add(live[0], 8), "points into an object"},
		{"free, on a sheaf", freed[99], "is free already"},
		{"free, long ago", freed[0], "is free already"},
	} {
		for op, free := range map[string]func(){
			"Free":          func() { c.Free(tc.obj) },
			"FreeBulk":      func() { c.FreeBulk([]unsafe.Pointer{tc.obj}) },
			"FreeBulk last": func() { c.FreeBulk([]unsafe.Pointer{live[0], live[1], tc.obj}) },
		} {
			t.Run(tc.name+" "+op, func(t *testing.T) {
				mustPanic(t, free, `cache "mine"`, tc.why)
				checkUnlocked(a)
				checkRest(t, c, live)
			})
		}
	}
	mustPanic(t, func() { c.FreeBulk([]unsafe.Pointer{live[0], live[1], live[0]}) }, "is free already")
	checkRest(t, c, live)
	flush(t, c)            // the sheaf of this CPU may be full
	pc := c.core.lockCPU() // as if the allocator had lost count
	c.core.openArea(pc)    // it may be that of a CPU that had nothing to do so far
	if !pc.area.Push(live[0]) {
		t.Error("the sheaf is full")
	}
	pc.mu.Unlock()
	flush(t, c)
	mustPanic(t, func() { allocN(t, c, c.Stats().TotalObjects) }, `cache "mine"`, "is handed out twice")
	checkUnlocked(a)
	for _, obj := range live { // also those that a refused FreeBulk named
		c.Free(obj)
	}
	got := liveOf(c) // before the panic
	checkRest(t, c, got)
	freeAll(c, got)
	checkRest(t, c, nil)
	if a.Damage() != 0 {
		t.Errorf("%d objects damaged", a.Damage())
	}
}

// liveOf returns what the bitmaps of an invariants build note as live.
func liveOf(c *Cache) (live []unsafe.Pointer) {
	k := c.core
	for p := pages.Page(0); ; p += 1 << k.order {
		if _, ok := pages.Of(pages.At(p)); !ok {
			return live
		}
		for i := range k.objects {
			if pages.Owner(p) == k.number && pages.Bits(slabAt(p).live, k.words)[i/64]>>(i%64)&1 != 0 {
				live = append(live, unsafe.Add(pages.At(p), uintptr(i)*uintptr(k.size)))
			}
		}
	}
}

// Without invariants a wrong Free is found when the object returns to its slab.
// It is counted and logged, and the other objects are as they were.
func TestDamage(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the invariants build finds these at once")
	}
	for _, tc := range []struct {
		name string
		size int
		do   func(c *Cache, obj unsafe.Pointer)
		want int // damaged objects
		lost int // objects that stay live for ever
	}{
		{"double", 64, func(c *Cache, obj unsafe.Pointer) { c.Free(obj); c.Free(obj) }, 1, 0},
		{"triple", 64, func(c *Cache, obj unsafe.Pointer) { c.Free(obj); c.Free(obj); c.Free(obj) }, 2, 0},
		{"double in bulk", 64, func(c *Cache, obj unsafe.Pointer) { c.FreeBulk([]unsafe.Pointer{obj, obj}) }, 1, 0},
		{"double after a flush", 64, func(c *Cache, obj unsafe.Pointer) { c.Free(obj); _ = c.SetCPUPartial(1); c.Free(obj) }, 1, 0},
		{"interior", 64, func(c *Cache, obj unsafe.Pointer) { c.Free(unsafe.Add(obj, 8)) }, 1, 1},
		{"interior of a large one", 5000, func(c *Cache, obj unsafe.Pointer) { c.Free(unsafe.Add(obj, 4096)) }, 1, 1},
		{"rest of a slab", 96, func(c *Cache, obj unsafe.Pointer) {
			c.Free(unsafe.Pointer(uintptr(obj)&^(pages.Size-1) + 42*96))
		}, 1, 1},
	} {
		for how, flush := range map[string]func(a *Allocator, c *Cache) error{
			"flush":   func(_ *Allocator, c *Cache) error { return c.SetCPUPartial(7) },
			"shrink":  func(_ *Allocator, c *Cache) error { c.Shrink(); return nil },
			"reclaim": func(a *Allocator, _ *Cache) error { a.reclaim(a.newAttempt(), nil); return nil },
			"destroy": func(_ *Allocator, c *Cache) error { _ = c.Destroy(); return nil },
		} {
			t.Run(tc.name+", "+how, func(t *testing.T) {
				a, log := recordingAllocator(t, Options{})
				c := newCache(t, a, "damaged", tc.size, CacheOptions{})
				objs := allocN(t, c, 5)
				tc.do(c, objs[4])
				if err := flush(a, c); err != nil {
					t.Error(err)
				}
				if got := a.Damage(); got != uint64(tc.want) {
					t.Errorf("damage of %d objects; want %d", got, tc.want)
				}
				if lines := log.take(); len(lines) < 1 || !strings.Contains(strings.Join(lines, ";"), "cache=damaged") {
					t.Errorf("logged %q", lines)
				}
				live := objs[:4+tc.lost]
				checkRest(t, c, live)
				checkUnlocked(a)
				more := allocN(t, c, 200)
				checkRest(t, c, append(more, live...))
				freeAll(c, append(more, live...)) // the lost ones are freed as they should have been
			})
		}
	}
}

// Where barns are full a wrong Free is found as soon as the object leaves the sheaf, and what could not be put
// is in no count: with one node, with several, and of objects of several on one sheaf.
func TestDamageBehindFullBarns(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the invariants build finds these at once")
	}
	onNodes(t, func(t *testing.T, first, second int) {
		engines(t, func(t *testing.T, a *Allocator) {
			c := newCache(t, a, "damaged", 64, CacheOptions{})
			c.SetMinPartial(1000)
			var near, far []unsafe.Pointer
			exactly(t, first, func() { near = allocN(t, c, 1000) })
			exactly(t, second, func() { far = allocN(t, c, 1000) })
			flush(t, c)
			exactly(t, second, func() { freeAll(c, far[:511]) })
			mixed := func(n int) (objs []unsafe.Pointer) { // of both nodes, which are live until now
				for range n / 2 {
					objs = append(objs, near[0], far[len(far)-1])
					near, far = near[1:], far[:len(far)-1]
				}
				return objs
			}
			exactly(t, first, func() {
				freeAll(c, near[:511]) // the barn is full, one object is on the sheaf, and whole ones move
				near = near[511:]
				step := func(what string, do func(), flushed, slow, damaged int) {
					t.Helper()
					before := []int{int(sum(c.Events(SheafFlush))), int(sum(c.Events(FreeSlowpath))), int(a.Damage())}
					do()
					got := []int{int(sum(c.Events(SheafFlush))) - before[0], int(sum(c.Events(FreeSlowpath))) - before[1], int(a.Damage()) - before[2]}
					if want := []int{flushed, slow, damaged}; !slices.Equal(got, want) {
						t.Errorf("%s: sheaf_flush, free_slowpath and damage are %d more; want %d", what, got, want)
					}
				}
				twice, last := mixed(30), near[0]
				near = near[1:]
				step("on the sheaf", func() {
					freeAll(c, twice)
					freeAll(c, twice[1:])
					c.Free(last)
				}, 30, 1, 29)
				step("of the caller", func() {
					freeAll(c, mixed(58))
					c.Free(near[0])
					near = near[1:]
					mustPanic(t, func() { c.Free(last) }, "which is free already")
				}, 59, 0, 0)
				twice = mixed(32)
				step("in bulk", func() {
					mustPanic(t, func() { c.FreeBulk(slices.Concat(mixed(58), near[:1], twice, twice)) }, "is named twice in one call")
				}, 56, 32, 0)
				near = near[1:]
				damage := a.Damage()
				mustPanic(t, func() { c.FreeBulk(slices.Concat(mixed(60), twice)) }, "Free of 92 objects, of which 32 are free already")
				objs := mixed(90)
				mustPanic(t, func() { c.FreeBulk(append(objs, unsafe.Add(objs[0], 8))) }, "points into an object, 8 bytes behind")
				if a.Damage() != damage {
					t.Errorf("%d objects are counted that the caller heard of; want 0", a.Damage()-damage)
				}
			})
			live := append(near, far[511:]...)
			checkRest(t, c, live)
			flush(t, c)
			checkRest(t, c, live)
			freeAll(c, live)
			checkRest(t, c, nil)
			destroy(t, c)
		})
	})
}

// A doubly freed object whose slab has gone back to the pages must not touch
// what its page is used for now.
func TestStaleDoubleFree(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the invariants build finds these at once")
	}
	first, second := twoCPUs(t)
	a, log := recordingAllocator(t, Options{})
	c := newCache(t, a, "stale", 64, CacheOptions{})
	c.SetMinPartial(0)
	// One CPU's sheaf holds an object, and so does the other's slab.
	var objs []unsafe.Pointer
	pinned(t, first, func() { objs = append(objs, c.Alloc()) })
	pinned(t, second, func() { c.Free(objs[0]) })
	pinned(t, first, func() { c.Free(objs[0]) })
	if got := c.Stats().Cached; got < 2 {
		t.Skipf("%d objects on sheaves: the threads did not find their CPUs", got)
	}
	// The object's slab empties without a flush: put back what one sheaf holds.
	k := c.core
	k.a.flushLock.Lock()
	k.lockCPUs()
	objsOf := func(n int) (found []uintptr) {
		pc := k.cpus[n]
		pc.area.Close()
		found = pc.area.Drain(nil)
		pc.area.Open(int(k.sheafCap.Load()))
		return found
	}
	mine := objsOf(first)
	var discard slabList
	pc := k.cpus[first]
	pc.node.mu.Lock()
	bad := k.putObjects(pc.node, mine, nil, &discard)
	for pc.slabs.n > 0 {
		k.moveToNode(pc, pc.slabs.head, &discard)
	}
	pc.node.mu.Unlock()
	k.unlockCPUs()
	k.a.flushLock.Unlock()
	k.discardSlabs(&discard)
	if bad != 0 || c.Stats().Slabs != 0 {
		t.Fatalf("%d bad, %d slabs left; want none", bad, c.Stats().Slabs)
	}
	// Its page gets another user, whose descriptor must stay as it is.
	run := a.Bytes(3 * pages.Size)
	d := newCache(t, a, "heir", 64, CacheOptions{})
	heirs := allocN(t, d, 200)
	flush(t, d)
	flush(t, c)
	if a.Damage() != 1 || len(log.take()) != 1 {
		t.Errorf("damage of %d objects; want 1, and logged", a.Damage())
	}
	checkRest(t, d, heirs)
	freeAll(d, heirs)
	a.FreeBytes(run)
	if s := c.Stats(); s.Objects != 0 || s.Slabs != 0 || s.TotalObjects != 0 {
		t.Errorf("Stats: %+v", s)
	}
}

// The constructor runs once for each object of a slab, with no lock held, and
// what users leave in a constructed object stays there while it is free.
func TestConstructor(t *testing.T) {
	a := newAllocator(t, Options{})
	made := make(map[unsafe.Pointer]int)
	c := newCache(t, a, "ctor", 200, CacheOptions{Ctor: func(obj unsafe.Pointer) {
		if len(made)%20 == 0 {
			checkUnlocked(a)
			a.FreeBytes(a.Bytes(200))
		}
		made[obj]++
		b := bytesAt(obj, 200)
		for i := range b {
			b[i] = 0xc0
		}
	}})
	if c.Stats().Ctor == nil {
		t.Error("Stats shows no constructor")
	}
	objs := allocN(t, c, 100)
	s := c.Stats()
	if len(made) != s.TotalObjects {
		t.Errorf("%d objects constructed; want the %d of %d slabs", len(made), s.TotalObjects, s.Slabs)
	}
	for i, obj := range objs {
		for j, b := range bytesAt(obj, 200) {
			if b != 0xc0 {
				t.Fatalf("byte %d of object %d is %#x", j, i, b)
			}
		}
		stamp(bytesAt(obj, 200), uint64(i)|1<<40)
	}
	left := make(map[unsafe.Pointer]uint64)
	for i, obj := range objs {
		left[obj] = uint64(i) | 1<<40
		c.Free(obj)
	}
	flush(t, c)
	again := allocN(t, c, s.TotalObjects)
	for _, obj := range again {
		if v, ok := left[obj]; ok && !stamped(bytesAt(obj, 200), v) {
			t.Fatalf("object %p lost its content while it was free", obj)
		}
	}
	for obj, n := range made {
		if n != 1 {
			t.Errorf("object %p constructed %d times", obj, n)
		}
	}
	freeAll(c, again)
	c.Shrink()
	if c.Stats().Slabs != 0 {
		t.Error("slabs left after Shrink")
	}
	c.Free(c.Alloc())
	if a.Damage() != 0 {
		t.Error("damage")
	}
}

// A constructor that panics, or ends its goroutine, leaves no lock held and
// nothing behind.
func TestConstructorPanics(t *testing.T) {
	a := newAllocator(t, Options{MemoryLimit: 1 << 20})
	left := 0
	exit := false
	c := newCache(t, a, "ctor", 64, CacheOptions{Ctor: func(unsafe.Pointer) {
		if left--; left == 0 {
			if exit {
				runtime.Goexit()
			}
			panic("constructor")
		}
	}})
	for round := range 300 { // more than the limit, if slabs were lost
		for _, op := range []func(){
			func() { c.Alloc() },
			func() { c.AllocZeroed() },
			func() { c.AllocBulk(make([]unsafe.Pointer, 100)) },
		} {
			left = 1 + round%64
			if exit = round%2 == 0; exit {
				done := make(chan struct{})
				go func() { defer close(done); op() }()
				<-done
			} else {
				mustPanic(t, op, "constructor")
			}
			if c.Stats().Slabs != 0 || a.MemoryUsed() != 0 {
				t.Fatalf("%d slabs and %d bytes left", c.Stats().Slabs, a.MemoryUsed())
			}
		}
	}
	checkUnlocked(a)
	left = 0
	objs := allocN(t, c, 100)
	checkRest(t, c, objs)
	left = 1 + 64 // in the second new slab
	dst := make([]unsafe.Pointer, 300)
	mustPanic(t, func() { c.AllocBulk(dst) }, "constructor")
	if slices.ContainsFunc(dst, func(obj unsafe.Pointer) bool { return obj != nil }) {
		t.Error("AllocBulk panicked and left objects")
	}
	left = 0
	if n := c.Stats().Objects; n != 100 {
		t.Errorf("%d objects live after a bulk allocation that panicked; want 100", n)
	}
	freeAll(c, objs)
}

// Setters refuse what makes no sense.
func TestSetters(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "set", 64, CacheOptions{})
	for _, v := range []uint{0, 1, 1 << 31, maxCPUPartial} {
		if err := c.SetCPUPartial(v); err != nil || c.CPUPartial() != v {
			t.Errorf("SetCPUPartial(%d) = %v; then %d", v, err, c.CPUPartial())
		}
		freeAll(c, allocN(t, c, 1000))
		checkRest(t, c, nil)
	}
	if over := uint64(maxCPUPartial) + 1; over <= math.MaxUint { // not on 32 bits
		if err := c.SetCPUPartial(uint(over)); err == nil || c.CPUPartial() != maxCPUPartial {
			t.Errorf("SetCPUPartial(%d) = %v; then %d", over, err, c.CPUPartial())
		}
	}
	for _, v := range []uint64{0, 1, 1<<64 - 1} {
		if c.SetMinPartial(v); c.MinPartial() != v {
			t.Errorf("SetMinPartial(%d); then %d", v, c.MinPartial())
		}
		freeAll(c, allocN(t, c, 1000))
		flush(t, c)
		checkRest(t, c, nil)
	}
	for _, tc := range []struct {
		percent uint
		ok      bool
	}{{0, true}, {100, true}, {101, false}, {math.MaxUint, false}} {
		before := c.RemoteNodeDefragRatio()
		err := c.SetRemoteNodeDefragRatio(tc.percent)
		if want := tc.percent; (err == nil) != tc.ok || tc.ok && c.RemoteNodeDefragRatio() != want || !tc.ok && c.RemoteNodeDefragRatio() != before {
			t.Errorf("SetRemoteNodeDefragRatio(%d) = %v; then %d", tc.percent, err, c.RemoteNodeDefragRatio())
		}
	}
}

// cpu_partial bounds the slabs that a CPU keeps, min_partial those that stay though empty.
func TestBounds(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "bounds", 64, CacheOptions{})
	for _, partial := range []uint{0, 31, 32, 33, 64, 120, 1000} {
		if err := c.SetCPUPartial(partial); err != nil {
			t.Fatal(err)
		}
		most := 1 + int(2*partial+63)/64
		objs := allocN(t, c, 5000)
		for i := range objs { // every slab has free objects
			if i%8 == 0 {
				c.Free(objs[i])
				objs[i] = nil
			}
		}
		for _, s := range c.Stats().CPUs {
			if s.Slabs > most || s.CPUPartial != s.Slabs-1 {
				t.Errorf("cpu_partial %d: CPU %d keeps %d slabs, %d of them partial; want %d at most", partial, s.CPU, s.Slabs, s.CPUPartial, most)
			}
		}
		for _, obj := range objs {
			if obj != nil {
				c.Free(obj)
			}
		}
	}
	for _, keep := range []uint64{0, 3, 7} {
		freeAll(c, allocN(t, c, 3000))
		c.SetMinPartial(keep)
		flush(t, c)
		freeAll(c, allocN(t, c, 3000))
		flush(t, c)
		if s := c.Stats(); s.Slabs > int(keep)+s.CPUSlabs {
			t.Errorf("min_partial %d: %d slabs stay", keep, s.Slabs)
		}
	}
	checkRest(t, c, nil)
}
