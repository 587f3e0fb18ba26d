package alloc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// Ids are those of SLUB; what cannot merge has none.
func TestIDs(t *testing.T) {
	merging, plain := newAllocator(t, Options{Merge: true}), newAllocator(t, Options{})
	for _, tc := range []struct {
		size int
		o    CacheOptions
		want string // empty: its own name
	}{
		{1, CacheOptions{}, ":0000008"},
		{8, CacheOptions{}, ":0000008"},
		{9, CacheOptions{}, ":0000016"},
		{185, CacheOptions{}, ":0000192"},
		{192, CacheOptions{Flags: ReclaimAccount}, ":a-0000192"},
		{184, CacheOptions{Flags: HWCacheAlign}, ":0000192"},
		{184, CacheOptions{Flags: HWCacheAlign | ReclaimAccount}, ":a-0000192"},
		{20, CacheOptions{Flags: HWCacheAlign}, ":0000032"},
		{100, CacheOptions{Align: 64}, ":0000128"},
		{4232, CacheOptions{Flags: ReclaimAccount}, ":a-0004232"},
		{4 << 20, CacheOptions{}, ":4194304"},
		{192, CacheOptions{Flags: NoMerge}, ""},
		{192, CacheOptions{SheafCapacity: 60}, ""},
		{192, CacheOptions{Ctor: func(unsafe.Pointer) {}}, ""},
	} {
		for range 2 { // made first, joined
			c := newCache(t, merging, fmt.Sprint("c", len(merging.Caches())), tc.size, tc.o)
			want := tc.want
			if want == "" {
				want = c.Name()
			}
			if got := c.ID(); got != want {
				t.Errorf("id of a cache of %d bytes, %+v = %q; want %q", tc.size, tc.o, got, want)
			}
			if c.ObjectSize() != tc.size {
				t.Errorf("ObjectSize = %d; want %d", c.ObjectSize(), tc.size)
			}
		}
		c := newCache(t, plain, fmt.Sprint("c", len(plain.Caches())), tc.size, tc.o)
		if c.ID() != c.Name() {
			t.Errorf("id without Merge = %q; want %q", c.ID(), c.Name())
		}
	}
	for _, c := range merging.Caches() {
		if s := c.Stats(); s.UserSize > 0 && (c.ID() != c.Name() || s.Aliases != 0) {
			t.Errorf("%s has merged with %s", c.Name(), c.ID())
		}
	}
	if n := len(*merging.cores.Load()); n != len(kmallocSizes)+8+3*2 {
		t.Errorf("%d cores; want those of kmalloc-*, 8 ids, and 6 caches that do not merge", n)
	}
}

// findMergeable is what SLUB does where an id is looked up here.
func findMergeable(cores []*core, size, align int, flags Flags) *core {
	align = calculateAlignment((size+7)&^7, align, flags)
	n := ((size+7)&^7 + align - 1) &^ (align - 1)
	for _, k := range cores { // oldest first
		if k.id == "" || n > int(k.size) || (k.flags^flags)&ReclaimAccount != 0 {
			continue
		}
		if int(k.size)&(align-1) == 0 && int(k.size)-n < wordSize {
			return k
		}
	}
	return nil
}

func TestFindMergeable(t *testing.T) {
	a := newAllocator(t, Options{Merge: true})
	r := random(t)
	joined, alone := 0, 0
	for i := range scaled(3000) {
		size, o := 1+r.IntN(300), CacheOptions{Flags: Flags(r.IntN(4))} // HWCacheAlign, ReclaimAccount
		if r.IntN(2) == 0 {
			o.Align = 1 << r.IntN(9)
		}
		want := findMergeable(*a.cores.Load(), size, o.Align, o.Flags)
		c := newCache(t, a, fmt.Sprint("c", i), size, o)
		first := len(c.core.handles) == 1
		if want == nil && !first || want != nil && c.core != want {
			t.Fatalf("a cache of %d bytes, %+v, joined %q, alone: %v; SLUB says %v", size, o, c.ID(), first, want)
		}
		if first {
			alone++
		} else {
			joined++
		}
		if obj := c.Alloc(); uintptr(obj)%uintptr(max(o.Align, 8)) != 0 {
			t.Errorf("object %p is not aligned to %d", obj, o.Align)
		} else {
			c.Free(obj)
		}
		if r.IntN(3) == 0 {
			destroy(t, c)
		}
	}
	if joined == 0 || alone == 0 {
		t.Errorf("%d joined, %d alone", joined, alone)
	}
}

// What files tell of a core follows its names.
func TestAliases(t *testing.T) {
	withMergedTrees(t, func(t *testing.T, a *Allocator, trees []*fakeTree) {
		check := func(c *Cache, aliases, size int) {
			t.Helper()
			for _, h := range []*Cache{c, c.core.root} {
				if s := h.Stats(); s.Aliases != aliases || s.ObjectSize != size || s.Size != 64 {
					t.Errorf("%s has %d aliases, object size %d; want %d, %d", h.Name(), s.Aliases, s.ObjectSize, aliases, size)
				}
			}
		}
		one := newCache(t, a, "one", 58, CacheOptions{})
		expect(t, trees, "publish :0000064", "publish one")
		check(one, 0, 58)
		two := newCache(t, a, "two", 63, CacheOptions{})
		three := newCache(t, a, "three", 57, CacheOptions{})
		expect(t, trees, "publish two", "publish three")
		check(one, 2, 63)
		apart := newCache(t, a, "apart", 64, CacheOptions{Flags: NoMerge})
		expect(t, trees, "publish apart")
		check(apart, 0, 64)

		objs := allocN(t, one, 300)
		freeAll(two, objs[:100])
		two.FreeBulk(objs[100:200])
		mustPanic(t, func() { apart.Free(objs[200]) }, `"apart"`, "another cache")
		objs = objs[200:]
		for _, c := range []*Cache{one, two, three} {
			if n := c.Stats().Objects; n != 100 {
				t.Errorf("%s has %d objects; want 100", c.Name(), n)
			}
		}
		// Each handle clears what its users asked for.
		obj := two.Alloc()
		for i := range bytesAt(obj, 64) {
			bytesAt(obj, 64)[i] = 0xff
		}
		two.Free(obj)
		if got := one.AllocZeroed(); got != obj || !slices.Equal(bytesAt(got, 58), make([]byte, 58)) {
			t.Errorf("AllocZeroed = %p, % x; want %p, zeroed", got, bytesAt(got, 58), obj)
		}
		three.Free(obj)

		destroy(t, two) // with objects live
		expect(t, trees, "unlink two")
		check(one, 1, 58)
		mustDead(t, two, objs[0])
		destroy(t, one) // the first
		expect(t, trees, "unlink one")
		check(three, 0, 57)
		mustDead(t, one, objs[0])
		checkRest(t, three, objs)

		two = newCache(t, a, "two", 64, CacheOptions{})
		expect(t, trees, "publish two")
		check(three, 1, 64)
		destroy(t, two)
		expect(t, trees, "unlink two")
		if err := three.Destroy(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), `"three": 100 objects are in use`) {
			t.Errorf("Destroy of the last name: %v; want ErrBusy", err)
		}
		freeAll(three, objs)
		destroy(t, three)
		expect(t, trees, "unlink three", "unlink :0000064")
		if !three.core.released.Load() || len(a.ids) != 0 {
			t.Error("the core is not released, or its id not free")
		}
		one = newCache(t, a, "one", 64, CacheOptions{})
		expect(t, trees, "publish :0000064", "publish one")
		if one.core == three.core {
			t.Error("a new cache has an old core")
		}
		destroy(t, one)
		destroy(t, apart)
		expect(t, trees, "unlink one", "unlink :0000064", "unlink apart")
	})
}

// mustDead fails unless each use of a handle panics with its name.
func mustDead(t *testing.T, c *Cache, obj unsafe.Pointer) {
	t.Helper()
	before := c.Stats()
	uses := []func(){
		func() { c.Alloc() }, func() { c.AllocZeroed() }, func() { c.AllocBulk(make([]unsafe.Pointer, 3)) },
		func() { c.Free(obj) }, func() { c.FreeBulk([]unsafe.Pointer{obj}) },
		c.Shrink, func() { _ = c.SetCPUPartial(1) }, func() { _ = c.SetSheafCapacity(1) }, func() { _ = c.Destroy() },
	}
	if c != c.core.root { // else they are what stores may do while it dies
		uses = append(uses,
			func() { _ = c.ShrinkContext(t.Context()) }, func() { _ = c.SetCPUPartialContext(t.Context(), 1) },
			func() { _ = c.SetSheafCapacityContext(t.Context(), 1) }, func() { _ = c.ClearEvents(t.Context(), AllocSlab) },
			func() { c.SetMinPartial(1) }, func() { _ = c.SetRemoteNodeDefragRatio(1) })
	}
	for _, f := range uses {
		mustPanic(t, f, fmt.Sprintf(`on cache %q after its Destroy`, c.Name()))
		checkUnlocked(c.core.a)
	}
	if now := c.Stats(); now.Objects != before.Objects {
		t.Errorf("uses of a dead handle changed the objects from %d to %d", before.Objects, now.Objects)
	}
}

// Two goroutines use a name that shares its core while a third destroys it, at the first
// attempt. Their next call panics; no object is lost, doubled, or another cache's.
func TestDestroyAliasInUse(t *testing.T) {
	a := newAllocator(t, Options{Merge: true})
	stays := newCache(t, a, "stays", 64, CacheOptions{})
	r := random(t)
	stop := make(chan struct{})
	wait := disturb(stop,
		func(*rand.Rand) { stays.Shrink() },
		func(r *rand.Rand) {
			d := newCache(t, a, "heir", 64, CacheOptions{Flags: NoMerge})
			m, x := &ledger{tb: t}, new(exchange)
			work(d, m, x, r, 200)
			x.drain(d, m)
			m.check()
			destroy(t, d)
		})
	l := &ledger{tb: t}
	for range scaled(400) {
		used := newCache(t, a, "used", 64, CacheOptions{})
		var wg sync.WaitGroup
		for range 2 {
			r := rand.New(rand.NewPCG(r.Uint64(), 5))
			wg.Go(func() { useAlias(t, used, stays, l, r) })
		}
		within("destroy of a name in use", func() {
			time.Sleep(time.Duration(r.IntN(200)) * time.Microsecond)
			destroy(t, used)
			wg.Wait()
		})
	}
	close(stop)
	wait()
	l.check()
	checkRest(t, stays, nil)
}

// useAlias allocates and frees through a name until it is destroyed, and frees what
// is left through another.
func useAlias(t *testing.T, c, other *Cache, l *ledger, r *rand.Rand) {
	var mine []held
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, `on cache "used" after its Destroy`) {
			t.Errorf("panic: %s", got)
		}
		for _, h := range mine {
			if h.ticket != 0 { // else the Free of it has panicked
				l.gives(h.obj, 64, h.ticket)
			}
			other.Free(h.obj)
		}
	}()
	for {
		objs := make([]unsafe.Pointer, 1+r.IntN(20))
		if r.IntN(2) == 0 {
			objs = objs[:1]
			objs[0] = c.Alloc()
		} else {
			c.AllocBulk(objs)
		}
		for _, obj := range objs {
			mine = append(mine, held{obj, l.got(obj, 64)})
		}
		for len(mine) > r.IntN(40) {
			h := &mine[len(mine)-1]
			l.gives(h.obj, 64, h.ticket)
			h.ticket = 0
			c.Free(h.obj)
			mine = mine[:len(mine)-1]
		}
	}
}

// withMergedTrees is withTrees for an allocator that merges.
func withMergedTrees(t *testing.T, f func(t *testing.T, a *Allocator, trees []*fakeTree)) {
	for n := range 3 {
		t.Run(fmt.Sprintf("%d trees", n), func(t *testing.T) {
			a := newAllocator(t, Options{Merge: true})
			var trees []*fakeTree
			for i := range n {
				tree := newTree(t, string(rune('A'+i)))
				tree.publish = func(*Cache) error { checkUnlocked(a); return nil }
				tree.unlink = func(*Cache) { checkUnlocked(a) }
				defer tree.attach(a)()
				tree.take()
				trees = append(trees, tree)
			}
			f(t, a, trees)
			late := newTree(t, "late")
			defer late.attach(a)()
			for _, tree := range append(trees, late) {
				tree.checkShows(a)
			}
		})
	}
}

// The directory's handle works as long as the core has names, whichever.
func TestDirectoryHandle(t *testing.T) {
	a := newAllocator(t, Options{Merge: true})
	tree := newTree(t, "A")
	var dir *Cache
	tree.publish = func(c *Cache) error {
		if c.Name() == ":0000064" {
			dir = c
		}
		return nil
	}
	defer tree.attach(a)()
	one, two := newCache(t, a, "one", 64, CacheOptions{ShellDelete: true}), newCache(t, a, "two", 64, CacheOptions{})
	if dir == nil || slices.Contains(a.Caches(), dir) || dir.ObjectSize() != 64 || dir.ID() != one.ID() {
		t.Fatalf("the directory's handle %v, in the list of caches or with other properties", dir)
	}
	for _, tc := range []struct {
		name string
		want error
	}{{":0000064", ErrNotExist}, {"two", ErrPermission}, {"one", nil}, {"one", ErrNotExist}} {
		if err := a.DestroyName(tc.name); !errors.Is(err, tc.want) {
			t.Errorf("DestroyName(%q) = %v; want %v", tc.name, err, tc.want)
		}
	}
	if err := dir.Destroy(); !errors.Is(err, ErrPermission) || !strings.Contains(err.Error(), "last of its names") {
		t.Errorf("Destroy of the directory: %v; want ErrPermission", err)
	}
	obj := dir.AllocZeroed()
	if err := dir.SetCPUPartialContext(context.Background(), 7); err != nil || two.CPUPartial() != 7 {
		t.Errorf("SetCPUPartial: %v, %d; want 7", err, two.CPUPartial())
	}
	two.Free(obj)
	dir.Shrink()
	destroy(t, two)
	mustDead(t, dir, obj)
}

// Counters of the allocator count a core once.
func TestMergedCountOnce(t *testing.T) {
	a := newAllocator(t, Options{Merge: true})
	base := len(*a.cores.Load())
	var cs []*Cache
	for i := range 5 {
		cs = append(cs, newCache(t, a, fmt.Sprint("c", i), 64, CacheOptions{}))
	}
	freeAll(cs[0], allocN(t, cs[1], 1000))
	if n := len(*a.cores.Load()); n != base+1 || len(a.Caches()) != base+5 {
		t.Errorf("%d cores, %d caches; want %d, %d", n, len(a.Caches()), base+1, base+5)
	}
	s := cs[3].Stats()
	if got, want := a.CachedBytes(), (cs[0].core.cached()+cs[0].core.cpuFree())*64; got != want {
		t.Errorf("CachedBytes = %d; want %d", got, want)
	}
	if got, want := a.MemoryUsed(), int64(s.Slabs*slabBytes(s.Order)); got != want {
		t.Errorf("MemoryUsed = %d; want %d", got, want)
	}
	destroy(t, cs[0]) // the oldest
	if n := len(*a.cores.Load()); n != base+1 {
		t.Errorf("%d cores after one name of five; want %d", n, base+1)
	}
}

// Close takes all names of a core or none.
func TestCloseMerged(t *testing.T) {
	withMergedTrees(t, func(t *testing.T, a *Allocator, trees []*fakeTree) {
		var cs []*Cache
		for _, name := range []string{"b", "a", "c"} {
			cs = append(cs, newCache(t, a, name, 64, CacheOptions{}))
		}
		newCache(t, a, "empty", 8, CacheOptions{})
		newCache(t, a, "void", 8, CacheOptions{})
		obj := cs[1].Alloc()
		for _, tree := range trees {
			tree.take()
		}
		mustBusy(t, a, "b and a and c (1 objects)")
		expect(t, trees)
		for _, c := range cs {
			c.Free(c.Alloc())
		}
		mustWork(t, a)
		cs[2].Free(obj)
		destroy(t, cs[0])
		for _, tree := range trees {
			tree.take()
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, size := range kmallocSizes {
			want = append(want, "unlink "+size.name)
		}
		expect(t, trees, append(want, "unlink a", "unlink c", "unlink empty", "unlink void", "unlink :0000064", "unlink :0000008")...)
	})
}

// A create waits, with no lock held, while the directory that it needs is being
// published, and while that of a dying core is being unlinked; the hotplug lock
// can be had for writing meanwhile. Names of other sizes are made at once.
func TestCreateWaitsForDirectory(t *testing.T) {
	for _, stage := range []string{"publish :0000064", "publish one", "unlink one", "unlink :0000064"} {
		t.Run(stage, func(t *testing.T) {
			a := newAllocator(t, Options{Merge: true})
			tree := newTree(t, "A")
			blocked, goOn := make(chan struct{}), make(chan struct{})
			at := func(event string) {
				if event == stage && blocked != nil {
					b := blocked
					blocked = nil
					close(b)
					<-goOn
				}
			}
			tree.publish = func(c *Cache) error { at("publish " + c.Name()); return nil }
			tree.unlink = func(c *Cache) { at("unlink " + c.Name()) }
			defer tree.attach(a)()
			began, ended := blocked, make(chan struct{})
			go func() {
				defer close(ended)
				c, err := a.NewCache("one", 64, CacheOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				if strings.HasPrefix(stage, "unlink") {
					destroy(t, c)
				}
			}()
			<-began
			made := make(chan *Cache)
			go func() {
				c, err := a.NewCache("two", 64, CacheOptions{})
				if err != nil {
					t.Error(err)
				}
				made <- c
			}()
			for range 20 {
				time.Sleep(100 * time.Microsecond)
				checkUnlocked(a)
			}
			if _, err := a.NewCache("one", 64, CacheOptions{}); !errors.Is(err, ErrExist) {
				t.Errorf("NewCache of the same name: %v; want ErrExist", err)
			}
			destroy(t, newCache(t, a, "three", 72, CacheOptions{}))
			destroy(t, newCache(t, a, "four", 64, CacheOptions{Flags: NoMerge}))
			select {
			case <-made:
				t.Error("made without waiting")
			default:
			}
			close(goOn)
			within("a create that waits", func() { <-ended; <-made })
			tree.checkShows(a)
		})
	}
}

// A tree that attaches publishes directories first, and destroys wait for it. A
// name that it could not publish, or whose directory it could not, is absent.
func TestAttachMerged(t *testing.T) {
	a, log := recordingAllocator(t, Options{Merge: true})
	one, two := newCache(t, a, "one", 64, CacheOptions{}), newCache(t, a, "two", 64, CacheOptions{})
	newCache(t, a, "three", 8, CacheOptions{})
	newCache(t, a, "four", 64, CacheOptions{})
	tree := newTree(t, "A")
	tree.publish = func(c *Cache) error {
		if c.Name() == ":0000064" || c.Name() == "three" {
			return errors.New("no room")
		}
		return nil
	}
	defer tree.attach(a)()
	if got := tree.take()[len(kmallocSizes):]; !slices.Equal(got, []string{"publish :0000064", "publish :0000008", "publish three"}) {
		t.Errorf("told %q", got)
	}
	if lines := log.take(); len(lines) != 2 {
		t.Errorf("logged %q; want the directory and the name", lines)
	}
	tree.publish = nil
	five := newCache(t, a, "five", 64, CacheOptions{}) // the tree has no directory for it
	six := newCache(t, a, "six", 8, CacheOptions{})
	expect(t, []*fakeTree{tree}, "publish six")
	last := newTree(t, "B")
	defer last.attach(a)()
	if got, want := last.take()[len(kmallocSizes):], []string{"publish :0000064", "publish one", "publish two",
		"publish four", "publish five", "publish :0000008", "publish three", "publish six"}; !slices.Equal(got, want) {
		t.Errorf("told %q; want %q", got, want)
	}
	last.checkShows(a)
	for _, c := range []*Cache{one, two, five, six} {
		destroy(t, c)
	}
	expect(t, []*fakeTree{tree}, "unlink six")
	expect(t, []*fakeTree{last}, "unlink one", "unlink two", "unlink five", "unlink six")
}

// A tree that attaches may find a directory dead whose names are about to be.
func TestAttachFindsDyingDirectory(t *testing.T) {
	a := newAllocator(t, Options{Merge: true})
	c := newCache(t, a, "dying", 64, CacheOptions{})
	c.core.root.dead.Store(true) // as shutDown does, before it comes to the names
	tree := newTree(t, "A")
	defer tree.attach(a)()
	if events := tree.take(); len(events) != len(kmallocSizes) {
		t.Errorf("told %q", events)
	}
	c.core.root.dead.Store(false)
	destroy(t, c)
	expect(t, []*fakeTree{tree})
}

// A name that cannot be published is undone alone, unless it is the first.
func TestPublishOfAliasFails(t *testing.T) {
	errFull := errors.New("tree is full")
	for failing := range 2 {
		a, log := recordingAllocator(t, Options{Merge: true})
		trees := []*fakeTree{newTree(t, "A"), newTree(t, "B")}
		for i, tree := range trees {
			tree.publish = func(c *Cache) error {
				checkUnlocked(a)
				if i == failing && (c.Name() == "fails" || c.Name() == ":0000008") {
					return errFull
				}
				return nil
			}
			defer tree.attach(a)()
			tree.take()
		}
		fails := func(size int, told []string, others ...string) { // the failing tree, and the one before it
			t.Helper()
			if c, err := a.NewCache("fails", size, CacheOptions{}); c != nil || !errors.Is(err, errFull) {
				t.Errorf("NewCache = %v, %v; want %v", c, err, errFull)
			}
			expect(t, trees[failing:failing+1], told...)
			expect(t, trees[:failing], others...)
			expect(t, trees[failing+1:]) // none
			for _, tree := range trees {
				tree.checkShows(a)
			}
		}
		fails(64, []string{"publish :0000064", "publish fails", "unlink :0000064"}, "publish :0000064", "publish fails", "unlink fails", "unlink :0000064")
		fails(8, []string{"publish :0000008"}, "publish :0000008", "publish fails", "unlink fails", "unlink :0000008")
		if len(a.ids) != 0 || len(*a.cores.Load()) != len(kmallocSizes) {
			t.Errorf("%d ids, %d cores are left", len(a.ids), len(*a.cores.Load()))
		}
		c := newCache(t, a, "works", 60, CacheOptions{})
		objs := allocN(t, c, 100)
		for _, tree := range trees {
			tree.take()
		}
		fails(64, []string{"publish fails"}, "publish fails", "unlink fails")
		if s := c.Stats(); s.Aliases != 0 || s.ObjectSize != 60 {
			t.Errorf("after a name that failed: %d aliases, object size %d; want 0, 60", s.Aliases, s.ObjectSize)
		}
		checkRest(t, c, objs)
		freeAll(c, objs)
		destroy(t, c)
		if lines := log.take(); len(lines) > 0 {
			t.Errorf("logged %q", lines)
		}
	}
}

// The last name that can be used does not end while another is being made, which
// might fail: its objects would belong to nobody.
func TestDestroyWaitsForAlias(t *testing.T) {
	for _, fails := range []bool{false, true} {
		a := newAllocator(t, Options{Merge: true})
		tree := newTree(t, "A")
		blocked, goOn := make(chan struct{}), make(chan struct{})
		tree.publish = func(c *Cache) error {
			if c.Name() != "young" {
				return nil
			}
			close(blocked)
			<-goOn
			if fails {
				return errors.New("no")
			}
			return nil
		}
		defer tree.attach(a)()
		old := newCache(t, a, "old", 64, CacheOptions{})
		obj := old.Alloc()
		made, destroyed := make(chan *Cache), make(chan error)
		go func() { c, _ := a.NewCache("young", 64, CacheOptions{}); made <- c }()
		<-blocked
		go func() { destroyed <- old.Destroy() }()
		for range 20 {
			time.Sleep(100 * time.Microsecond)
			checkUnlocked(a)
		}
		select {
		case err := <-destroyed:
			t.Errorf("Destroy = %v while the other name is being made", err)
		default:
		}
		close(goOn)
		within("a destroy that waits", func() {
			young, err := <-made, <-destroyed
			if fails {
				if young != nil || !errors.Is(err, ErrBusy) {
					t.Errorf("the create fails: cache %v, Destroy = %v; want ErrBusy", young, err)
				}
				old.Free(obj)
			} else {
				if err != nil {
					t.Errorf("Destroy = %v", err)
				}
				young.Free(obj)
			}
		})
	}
}

// The directory goes after all links, also of names that other goroutines destroy.
func TestLastDestroyWaitsForLinks(t *testing.T) {
	a := newAllocator(t, Options{Merge: true})
	tree := newTree(t, "A")
	blocked, goOn := make(chan struct{}), make(chan struct{})
	tree.unlink = func(c *Cache) {
		if c.Name() == "slow" {
			close(blocked)
			<-goOn
		}
	}
	defer tree.attach(a)()
	slow, last := newCache(t, a, "slow", 64, CacheOptions{}), newCache(t, a, "last", 64, CacheOptions{})
	done := make(chan struct{}, 2)
	go func() { destroy(t, slow); done <- struct{}{} }()
	<-blocked
	go func() { destroy(t, last); done <- struct{}{} }()
	for range 20 {
		time.Sleep(100 * time.Microsecond)
		checkUnlocked(a)
	}
	if last.dead.Load() || !tree.shows("last") || !tree.shows(":0000064") {
		t.Error("the last name did not wait for the link of another")
	}
	last.Free(last.Alloc())
	close(goOn)
	within("destroys", func() { <-done; <-done })
}

// A model of caches that merge: which names and ids there are, and what is live.
type mergeModel struct {
	t      *testing.T
	a      *Allocator
	trees  []*fakeTree
	caches map[string]*Cache
	live   map[string][]unsafe.Pointer // by id
}

var mergeKinds = []struct {
	size int
	o    CacheOptions
}{
	{64, CacheOptions{}}, {60, CacheOptions{}}, {57, CacheOptions{ShellDelete: true}}, {64, CacheOptions{Flags: NoMerge}},
	{64, CacheOptions{Flags: ReclaimAccount}}, {33, CacheOptions{Flags: HWCacheAlign}}, {200, CacheOptions{}},
	{199, CacheOptions{Align: 8}}, {64, CacheOptions{Ctor: func(unsafe.Pointer) {}}},
}

// names returns those that share an id, in no order.
func (m *mergeModel) names(id string) (names []string) {
	for name, c := range m.caches {
		if c.ID() == id {
			names = append(names, name)
		}
	}
	return names
}

func (m *mergeModel) step(r *rand.Rand) {
	t, name := m.t, fmt.Sprint("n", r.IntN(8))
	c := m.caches[name]
	switch r.IntN(4) {
	case 0:
		kind := mergeKinds[r.IntN(len(mergeKinds))]
		made, err := m.a.NewCache(name, kind.size, kind.o)
		if c != nil && !errors.Is(err, ErrExist) || c == nil && err != nil {
			t.Fatalf("NewCache(%q): %v", name, err)
		}
		if c == nil {
			m.caches[name] = made
		}
	case 1:
		if c == nil {
			if err := m.a.DestroyName(name); !errors.Is(err, ErrNotExist) {
				t.Fatalf("DestroyName(%q): %v", name, err)
			}
			return
		}
		id := c.ID()
		last := len(m.names(id)) == 1
		err := c.Destroy()
		if busy := last && len(m.live[id]) > 0; busy != errors.Is(err, ErrBusy) || !busy && err != nil {
			t.Fatalf("Destroy(%q), last %v, with %d live: %v", name, last, len(m.live[id]), err)
		}
		if err == nil {
			delete(m.caches, name)
			mustPanic(t, func() { c.Alloc() }, name)
		}
	case 2:
		if c == nil {
			return
		}
		m.live[c.ID()] = append(m.live[c.ID()], allocN(t, c, 1+r.IntN(50))...)
	case 3:
		if c == nil {
			return
		}
		freeAll(c, m.live[c.ID()]) // of all names
		m.live[c.ID()] = nil
	}
}

func (m *mergeModel) check() {
	t := m.t
	sizes, count := make(map[string]int), make(map[string]int)
	for _, c := range m.caches {
		sizes[c.ID()] = max(sizes[c.ID()], c.ObjectSize())
		count[c.ID()]++
	}
	seen := 0
	for _, c := range m.a.Caches() {
		if c.usersize > 0 {
			continue
		}
		seen++
		s := c.Stats()
		if m.caches[c.Name()] != c || s.Aliases != count[c.ID()]-1 || s.ObjectSize != sizes[c.ID()] || s.Objects != len(m.live[c.ID()]) {
			t.Fatalf("%q: %d aliases, object size %d, %d objects; want %d, %d, %d", c.Name(),
				s.Aliases, s.ObjectSize, s.Objects, count[c.ID()]-1, sizes[c.ID()], len(m.live[c.ID()]))
		}
	}
	if seen != len(m.caches) {
		t.Fatalf("%d caches; want %d", seen, len(m.caches))
	}
	for _, tree := range m.trees {
		tree.checkShows(m.a)
	}
}

func TestMergeModel(t *testing.T) {
	r := random(t)
	m := &mergeModel{t: t, a: newAllocator(t, Options{Merge: true}), caches: make(map[string]*Cache), live: make(map[string][]unsafe.Pointer)}
	first := newTree(t, "first")
	defer first.attach(m.a)()
	m.trees = []*fakeTree{first}
	for i := range scaled(4000) {
		m.step(r)
		if i%50 == 0 {
			late := newTree(t, fmt.Sprint("late ", i))
			detach := late.attach(m.a)
			m.trees = append(m.trees, late)
			m.check()
			m.step(r)
			m.check()
			detach()
			m.trees = m.trees[:1]
		}
		m.check()
		if t.Failed() {
			t.FailNow()
		}
	}
	for id, objs := range m.live {
		if names := m.names(id); len(names) > 0 {
			checkRest(t, m.caches[names[0]], objs)
			freeAll(m.caches[names[0]], objs)
		}
	}
}

// Names that share ids come and go on many goroutines, with trees that attach, detach
// and fail, and a hotplug writer in the queue. Objects are allocated through one
// name and freed through another.
func TestMergeAgainstChurn(t *testing.T) {
	engines := []Engine{Lock}
	if startSequences() == nil {
		engines = append(engines, RSeq)
	}
	for _, engine := range engines {
		t.Run(engine.String(), func(t *testing.T) { mergeAgainstChurn(t, engine) })
	}
}

func mergeAgainstChurn(t *testing.T, engine Engine) {
	a, _ := recordingAllocator(t, Options{Merge: true, Engine: engine})
	r := random(t)
	errNo := errors.New("no")
	var full atomic.Bool
	yield := func(c *Cache) error {
		runtime.Gosched()
		if full.Load() && c.usersize == 0 && len(c.Name())%2 == 0 { // ids too
			return errNo
		}
		return nil
	}
	stays := newTree(t, "stays")
	stays.publish, stays.unlink = yield, func(*Cache) { runtime.Gosched() }
	defer stays.attach(a)()
	stop := make(chan struct{})
	wait := disturb(stop,
		func(*rand.Rand) { a.Hotplug().Lock(); a.Hotplug().Unlock() },
		func(r *rand.Rand) { full.Store(r.IntN(4) == 0); time.Sleep(20 * time.Microsecond) },
		func(*rand.Rand) {
			tree := newTree(t, "passing")
			tree.publish, tree.unlink = yield, func(*Cache) { runtime.Gosched() }
			detach := tree.attach(a)
			runtime.Gosched()
			detach()
		},
		func(r *rand.Rand) { // files of directories
			for _, c := range a.Caches() {
				if r.IntN(8) == 0 {
					dir := c.core.root
					_ = dir.core.flushAll(context.Background(), func() {}, nil)
					dir.Stats()
				}
			}
		})
	kinds := []int{8, 7, 64, 60, 200}
	var made, refused, failed atomic.Int64
	within("names that share cores against each other", func() {
		var wg sync.WaitGroup
		for g := range 5 {
			r := rand.New(rand.NewPCG(r.Uint64(), uint64(g)))
			wg.Go(func() {
				l := &ledger{tb: t}
				for range scaled(1500) {
					name := fmt.Sprint("own", g)
					if r.IntN(2) == 0 {
						name = fmt.Sprint("c", r.IntN(3))
					}
					c, err := a.NewCache(name, kinds[r.IntN(len(kinds))], CacheOptions{ShellDelete: true})
					switch {
					case errors.Is(err, ErrExist):
						refused.Add(1)
						runtime.Gosched()
						continue
					case errors.Is(err, errNo):
						failed.Add(1)
						continue
					case err != nil:
						t.Error(err)
						return
					}
					made.Add(1)
					obj := c.Alloc() // nobody else destroys it
					ticket := l.got(obj, 8)
					if d, err := a.NewCache(name+"x", c.ObjectSize(), CacheOptions{}); err == nil {
						if d.core != c.core {
							t.Errorf("%q and %q of one size do not share a core", c.Name(), d.Name())
						}
						if err := c.Destroy(); err != nil {
							t.Errorf("Destroy of a name that shares its core: %v", err)
						}
						c = d
					}
					l.gives(obj, 8, ticket)
					c.Free(obj)
					destroy(t, c) // never busy: whoever has objects has a name too
				}
				l.check()
			})
		}
		wg.Wait()
		close(stop)
		wait()
	})
	t.Logf("%d made, %d refused, %d failed", made.Load(), refused.Load(), failed.Load())
	if made.Load() == 0 || refused.Load() == 0 || failed.Load() == 0 {
		t.Error("the actors did not meet")
	}
	if len(a.ids) != 0 || len(a.Caches()) != len(kmallocSizes) {
		t.Errorf("%d ids and %d caches are left", len(a.ids), len(a.Caches())-len(kmallocSizes))
	}
	full.Store(false)
	stays.checkShows(a)
}
