package alloc

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"slabfs/internal/invariants"
)

func newPoints(t *testing.T, a *Allocator) *Typed[point] {
	t.Helper()
	points, err := NewTyped[point](a, "point", CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return points
}

// Values go round in every order, through several Locals and the cache; each is
// somebody's at any time, and all are back at the end.
func TestLocal(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		points := newPoints(t, a)
		exchange := make(chan *point, 1000)
		var wg sync.WaitGroup
		for g := range int64(4) {
			wg.Go(func() {
				l := points.Local()
				defer l.Return()
				var held []*point
				for i := range int64(20_000) {
					p := l.Alloc()
					*p = point{X: g, Y: i}
					held = append(held, p)
					for len(held) > 600 || len(held) > 0 && i%700 > 400 { // bursts: the ring becomes full, and empty
						last := held[len(held)-1]
						held = held[:len(held)-1]
						if last.X != g {
							t.Errorf("value %p of goroutine %d is %+v", last, g, *last)
						}
						switch last.Y % 3 {
						case 0:
							points.Free(last)
						case 1:
							exchange <- last
							l.Free(<-exchange)
						case 2:
							l.Free(last)
						}
					}
				}
				for _, p := range held {
					l.Free(p)
				}
			})
		}
		wg.Wait()
		checkRest(t, points.Cache(), nil)
		if s := points.Cache().Stats(); s.Objects != 0 {
			t.Errorf("%d values are live at the end", s.Objects)
		}
	})
}

// What Prefill took is there at the memory limit, and not less than asked for.
func TestLocalPrefill(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		points := newPoints(t, a)
		l := points.Local()
		for _, n := range []int{1, 64, 255, 256, 1000} {
			if !l.Prefill(n) || l.Len() < n {
				t.Fatalf("Prefill(%d) left %d values at hand", n, l.Len())
			}
		}
		if s := points.Cache().Stats(); s.Objects != 1000 {
			t.Errorf("%d values are live with 1000 at hand", s.Objects)
		}
		if err := points.Cache().Destroy(); err == nil {
			t.Error("Destroy succeeded with values at hand")
		}
		a.SetMemoryLimit(1)
		if l.Prefill(1_000_000) || l.Len() != 1000 {
			t.Errorf("Prefill beyond the limit left %d values at hand; want false, and 1000 as before", l.Len())
		}
		seen := make(map[*point]bool)
		for i := range 1000 {
			p := l.Alloc()
			if p == nil || seen[p] {
				t.Fatalf("Alloc %d of 1000 returned %p (known: %v)", i, p, seen[p])
			}
			seen[p] = true
		}
		for p := l.Alloc(); p != nil; p = l.Alloc() { // what slabs have
			seen[p] = true
		}
		for p := range seen {
			l.Free(p)
		}
		a.SetMemoryLimit(0)
		l.Return()
		if l.Len() != 0 {
			t.Errorf("%d values are at hand after Return", l.Len())
		}
		checkRest(t, points.Cache(), nil)
	})
}

// A value of another cache is found at the latest by Return, and then nothing else is lost.
func TestLocalFreeForeign(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		points := newPoints(t, a)
		others, err := NewTyped[point](a, "other", CacheOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l, foreign := points.Local(), others.Alloc()
		own := points.Alloc()
		l.Free(own)
		mustPanic(t, func() { l.Free(foreign); l.Return() }, `cache "point"`, "belongs to another cache")
		var many []*point
		for range 300 {
			many = append(many, points.Alloc())
		}
		mustPanic(t, func() {
			l.Free(foreign)
			for _, p := range many[:255] {
				l.Free(p)
			}
		}, `cache "point"`, "belongs to another cache")
		if invariants.Enabled {
			for _, p := range many {
				l.Free(p)
			}
			mustPanic(t, func() { l.Free(many[0]) }, "is free already")
		} else {
			for _, p := range many[254:] { // the last that was refused is the caller's
				l.Free(p)
			}
		}
		l.Return()
		others.Free(foreign)
		checkUnlocked(a)
		checkRest(t, points.Cache(), nil)
		checkRest(t, others.Cache(), nil)
	})
}

// A Local of a name that ended gives back what it has, as long as the core lives.
func TestLocalAfterDestroy(t *testing.T) {
	a := newAllocator(t, Options{Merge: true})
	points := newPoints(t, a)
	c := newCache(t, a, "same", int(unsafe.Sizeof(point{})), CacheOptions{})
	if c.ID() != points.Cache().ID() {
		t.Fatalf("the caches have the directories %q and %q", c.ID(), points.Cache().ID())
	}
	l := points.Local()
	l.Free(l.Alloc())
	destroy(t, points.Cache())
	l.Return()
	mustPanic(t, func() { l.Alloc() }, `cache "point" after its Destroy`)
	checkRest(t, c, nil)
}

// Alloc and Free of a Local are worth having because they are inlined.
func TestLocalIsInlined(t *testing.T) {
	if invariants.Enabled {
		t.Skip("this build checks more than can be inlined")
	}
	out, err := exec.Command("go", "test", "-c", "-o", t.TempDir()+"/alloc.test", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []string{"Alloc", "Free"} {
		if want := "can inline (*Local[go.shape.struct { X int64; Y int64; Next slabfs/alloc.Ref[slabfs/alloc.point] }])." + f; !strings.Contains(string(out), want) {
			t.Errorf("the compiler does not say %q", want)
		}
	}
}
