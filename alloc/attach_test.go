package alloc

import (
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

	"slabfs/internal/pages"
)

func TestAttach(t *testing.T) {
	a, log := recordingAllocator(t, Options{})
	c := newCache(t, a, "before", 8, CacheOptions{})
	tree := newTree(t, "A")
	tree.publish = func(c *Cache) error {
		checkUnlocked(a)
		if c.Name() == "kmalloc-8" {
			return errors.New("no room")
		}
		return nil
	}
	detach := tree.attach(a)
	var want []string
	for _, size := range kmallocSizes {
		want = append(want, "publish "+size.name)
	}
	expect(t, []*fakeTree{tree}, append(want, "publish before")...)
	if lines := log.take(); len(lines) != 1 || !strings.Contains(lines[0], "kmalloc-8") || !strings.Contains(lines[0], "no room") {
		t.Errorf("logged %q; want the cache that could not be published", lines)
	}
	newCache(t, a, "after", 8, CacheOptions{})
	destroy(t, c)
	expect(t, []*fakeTree{tree}, "publish after", "unlink before")
	detach()
	detach()
	newCache(t, a, "later", 8, CacheOptions{})
	if err := a.Close(); err != nil { // unlinks nothing, since nothing is shown
		t.Error(err)
	}
	expect(t, []*fakeTree{tree})
}

// A tree that comes and goes does not leave its trace in caches that stay.
func TestDetachForgets(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "stays", 8, CacheOptions{})
	for range 100 {
		newTree(t, "A").attach(a)()
	}
	if n := len(c.published); n > 1 {
		t.Errorf("a cache remembers %d trees that are detached", n)
	}
}

// Close tells the trees.
func TestCloseUnlinks(t *testing.T) {
	withTrees(t, func(t *testing.T, a *Allocator, _ *recorder, trees []*fakeTree) {
		newCache(t, a, "own", 8, CacheOptions{})
		expect(t, trees, "publish own")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, size := range kmallocSizes {
			want = append(want, "unlink "+size.name)
		}
		expect(t, trees, append(want, "unlink own")...)
	})
}

// detach waits for what is booked, and refuses to wait for itself.
func TestDetachWaits(t *testing.T) {
	a := newAllocator(t, Options{})
	blocked, goOn := make(chan struct{}), make(chan struct{})
	tree := newTree(t, "A")
	var detach func()
	tree.publish = func(c *Cache) error {
		if c.Name() == "slow" {
			mustPanic(t, detach, "detach called from a callback")
			close(blocked)
			<-goOn
		}
		return nil
	}
	detach = tree.attach(a)
	made := make(chan *Cache)
	go func() {
		c, err := a.NewCache("slow", 8, CacheOptions{})
		if err != nil {
			t.Error(err)
		}
		made <- c
	}()
	<-blocked
	var detached atomic.Int32
	for range 2 {
		go func() {
			detach()
			detached.Add(1)
		}()
	}
	time.Sleep(5 * time.Millisecond)
	if detached.Load() != 0 {
		t.Error("detach returned while a publish runs")
	}
	other := newCache(t, a, "other", 8, CacheOptions{}) // not told any more
	destroy(t, other)
	close(goOn)
	c := <-made
	soon("detach", func() bool { return detached.Load() == 2 })
	destroy(t, c)
	if events := tree.take(); slices.Contains(events, "unlink slow") || slices.Contains(events, "publish other") {
		t.Errorf("told after detach: %q", events)
	}
}

// Trees that attach and detach while caches come and go are told of each cache
// once, in order, and show all of them when nothing moves.
func TestAttachAgainstChurn(t *testing.T) {
	a := newAllocator(t, Options{})
	r := random(t)
	stays := newTree(t, "stays")
	defer stays.attach(a)()
	stop := make(chan struct{})
	yield := func(*Cache) error { runtime.Gosched(); return nil }
	actors := []func(*rand.Rand){func(*rand.Rand) { a.Hotplug().Lock(); a.Hotplug().Unlock() }}
	var told atomic.Int64
	for i := range 2 {
		actors = append(actors, func(*rand.Rand) {
			tree := newTree(t, fmt.Sprint("passing ", i))
			tree.publish = yield
			tree.unlink = func(c *Cache) { runtime.Gosched() }
			detach := tree.attach(a)
			for range 3 {
				runtime.Gosched()
			}
			detach()
			told.Add(int64(len(tree.take())))
		})
	}
	wait := disturb(stop, actors...)
	within("attach against churn", func() {
		var wg sync.WaitGroup
		for g := range 4 {
			seed := r.Uint64()
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, 3))
				for i := range scaled(1000) {
					c := newCache(t, a, fmt.Sprintf("c%d.%d", g, i%3), 8, CacheOptions{})
					if r.IntN(4) == 0 {
						c.Free(c.Alloc())
					}
					destroy(t, c)
				}
			})
		}
		wg.Wait()
		close(stop)
		wait()
	})
	last := newTree(t, "last")
	defer last.attach(a)()
	stays.checkShows(a)
	last.checkShows(a)
	if told.Load() == 0 {
		t.Error("no passing tree was told anything")
	}
}

// A Publish that fails undoes the create, in every tree.
func TestPublishFails(t *testing.T) {
	errFull := errors.New("tree is full")
	for failing := range 2 {
		t.Run(fmt.Sprintf("in tree %d of 2", failing+1), func(t *testing.T) {
			a, log := recordingAllocator(t, Options{})
			trees := []*fakeTree{newTree(t, "A"), newTree(t, "B")}
			for i, tree := range trees {
				tree.publish = func(c *Cache) error {
					checkUnlocked(a)
					if c.Name() != "fails" {
						return nil
					}
					freeAll(c, allocN(t, c, 300)) // a tree may use it already
					if i == failing {
						return errFull
					}
					return nil
				}
				defer tree.attach(a)()
				tree.take()
			}
			used := a.MemoryUsed()
			for range 3 {
				c, err := a.NewCache("fails", 64, CacheOptions{})
				if c != nil || !errors.Is(err, errFull) || !strings.Contains(err.Error(), `create cache "fails": `) {
					t.Errorf("NewCache = %v, %v; want %v", c, err, errFull)
				}
				if failing == 0 {
					expect(t, trees[:1], "publish fails")
					expect(t, trees[1:])
				} else {
					expect(t, trees[:1], "publish fails", "unlink fails")
					expect(t, trees[1:], "publish fails")
				}
				if n := len(*a.cores.Load()); n != len(kmallocSizes) {
					t.Errorf("%d caches on the list after a failed create; want %d", n, len(kmallocSizes))
				}
				if a.MemoryUsed() != used {
					t.Errorf("%d bytes in use after a failed create; want %d", a.MemoryUsed(), used)
				}
			}
			if err := a.DestroyName("fails"); !errors.Is(err, ErrNotExist) {
				t.Errorf("DestroyName: %v; want ErrNotExist", err)
			}
			trees[failing].publish = nil
			destroy(t, newCache(t, a, "fails", 64, CacheOptions{}))
			for _, tree := range trees {
				tree.checkShows(a)
			}
			if lines := log.take(); len(lines) > 0 {
				t.Errorf("logged %q", lines)
			}
		})
	}
}

// A create that fails is never found by a destroy, however they meet.
func TestPublishFailsAgainstDestroy(t *testing.T) {
	a := newAllocator(t, Options{})
	tree := newTree(t, "A")
	tree.publish = func(c *Cache) error {
		if c.Name() == "fails" {
			time.Sleep(10 * time.Microsecond) // destroys come to wait
			return errors.New("no")
		}
		return nil
	}
	defer tree.attach(a)()
	stop := make(chan struct{})
	destroyer := func(*rand.Rand) {
		if err := a.DestroyName("fails"); !errors.Is(err, ErrNotExist) {
			t.Errorf("DestroyName of a cache whose create fails: %v; want ErrNotExist", err)
		}
	}
	wait := disturb(stop, destroyer, destroyer, destroyer, func(*rand.Rand) { a.Hotplug().Lock(); a.Hotplug().Unlock() })
	within("failed creates against destroys", func() {
		for range scaled(1000) {
			if _, err := a.NewCache("fails", 8, CacheOptions{ShellDelete: true}); err == nil {
				t.Error("the create succeeded")
			}
		}
		close(stop)
		wait()
	})
}

// While a create fails, a tree attaches and a destroy of the name waits.
func TestPublishFailsDuringAttach(t *testing.T) {
	for _, detach := range []bool{false, true} {
		t.Run(fmt.Sprintf("detach %v", detach), func(t *testing.T) {
			a := newAllocator(t, Options{})
			first, late := newTree(t, "first"), newTree(t, "late")
			inLate, goOn := make(chan struct{}), make(chan struct{})
			late.publish = func(c *Cache) error {
				if c.Name() == "fails" {
					close(inLate)
					<-goOn
				}
				return nil
			}
			attached, destroyed := make(chan func(), 1), make(chan error, 1)
			first.publish = func(c *Cache) error {
				if c.Name() != "fails" {
					return nil
				}
				go func() { attached <- late.attach(a) }()
				go func() { destroyed <- a.DestroyName("fails") }()
				<-inLate
				time.Sleep(time.Millisecond) // the destroy waits
				return errors.New("no")
			}
			defer first.attach(a)()
			failed := make(chan error, 1)
			go func() {
				_, err := a.NewCache("fails", 8, CacheOptions{ShellDelete: true})
				failed <- err
			}()
			within("a failed create", func() {
				<-inLate
				time.Sleep(5 * time.Millisecond)
				if _, err := a.NewCache("fails", 8, CacheOptions{}); !errors.Is(err, ErrExist) {
					t.Errorf("NewCache before the tree that attaches has unlinked: %v; want ErrExist", err)
				}
				close(goOn)
				if err := <-failed; err == nil {
					t.Error("the create succeeded")
				}
				if err := <-destroyed; !errors.Is(err, ErrNotExist) {
					t.Errorf("DestroyName of a cache whose create fails: %v; want ErrNotExist", err)
				}
				d := <-attached
				if detach {
					d()
				} else {
					defer d()
				}
			})
			if late.shows("fails") {
				t.Error("the late tree still shows the cache")
			}
			first.publish = nil
			late.publish = nil
			destroy(t, newCache(t, a, "fails", 8, CacheOptions{}))
		})
	}
}

// A tree that attaches is not told of a cache whose create has failed meanwhile.
func TestAttachSkipsDying(t *testing.T) {
	a := newAllocator(t, Options{})
	first, late := newTree(t, "first"), newTree(t, "late")
	inLate, goOn := make(chan struct{}), make(chan struct{})
	late.publish = func(c *Cache) error {
		if c.Name() == "kmalloc-8" {
			close(inLate)
			<-goOn
		}
		return nil
	}
	attached := make(chan func(), 1)
	first.publish = func(c *Cache) error {
		if c.Name() != "fails" {
			return nil
		}
		go func() { attached <- late.attach(a) }()
		<-inLate
		go func() {
			soon("the end of a cache", c.dead.Load)
			close(goOn)
		}()
		return errors.New("no")
	}
	defer first.attach(a)()
	within("a failed create", func() {
		if _, err := a.NewCache("fails", 8, CacheOptions{}); err == nil {
			t.Error("the create succeeded")
		}
		defer (<-attached)()
	})
	if events := late.take(); slices.Contains(events, "publish fails") || len(events) != len(kmallocSizes) {
		t.Errorf("told %q", events)
	}
}

// A tree that gave objects of a cache away before its create failed: they stay
// as they are, and nobody else gets them.
func TestPublishFailsWithLiveObjects(t *testing.T) {
	a, log := recordingAllocator(t, Options{})
	tree := newTree(t, "A")
	var objs []unsafe.Pointer
	var c *Cache
	tree.publish = func(d *Cache) error {
		if d.Name() != "fails" {
			return nil
		}
		c, objs = d, allocN(t, d, 100)
		for i, obj := range objs {
			stamp(bytesAt(obj, 64), uint64(i))
		}
		d.Shrink() // all slabs with free objects are on the partial list
		return errors.New("no")
	}
	defer tree.attach(a)()
	if _, err := a.NewCache("fails", 64, CacheOptions{}); err == nil {
		t.Error("the create succeeded")
	}
	if lines := log.take(); len(lines) != 1 || !strings.Contains(lines[0], "objects=100") {
		t.Errorf("logged %q; want the cache and its objects", lines)
	}
	mustPanic(t, func() { c.Alloc() }, `"fails"`)
	mustPanic(t, func() { c.Free(objs[0]) }, `"fails"`)
	tree.publish = nil
	d := newCache(t, a, "fails", 64, CacheOptions{})
	others := allocN(t, d, 1000)
	for _, obj := range others {
		clear(bytesAt(obj, 64))
	}
	for i, obj := range objs {
		if !stamped(bytesAt(obj, 64), uint64(i)) {
			t.Fatal("an object was handed out again")
		}
	}
	freeAll(d, others)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if n := a.MemoryUsed(); n != 2*pages.Size {
		t.Errorf("%d bytes in use; want the two slabs that are lost", n)
	}
	var lost []uintptr
	for _, obj := range objs {
		lost = append(lost, uintptr(obj))
	}
	c.core.giveBack(lost, new(slabList)) // for the check that ends each test
	c.core.discardAll()
	release([]*core{c.core})
}
