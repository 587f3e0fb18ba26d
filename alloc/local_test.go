package alloc

import (
	"errors"
	"math"
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
		const busy = `destroy cache "point": 1000 objects are in use, counting those in Locals, which Return gives back: busy`
		if err := points.Cache().Destroy(); !errors.Is(err, ErrBusy) || err.Error() != busy {
			t.Errorf("Destroy with values at hand: %v; want %s", err, busy)
		}
		const open = "close allocator: point (1000 objects, counting those in Locals, which Return gives back): busy; free them and close again"
		if err := a.Close(); !errors.Is(err, ErrBusy) || err.Error() != open {
			t.Errorf("Close with values at hand: %v; want %s", err, open)
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

// What Prefill has promised stays at hand until it is allocated. No Free gives it
// back.
func TestLocalPromise(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		points := newPoints(t, a)
		for _, tc := range []struct{ promised, before, freed int }{
			{255, 0, 1}, {255, 0, 2000}, {1, 0, 300}, {127, 200, 300}, {128, 255, 1}, {200, 255, 2000}, {256, 100, 500}, {1000, 0, 3000},
		} {
			l := points.Local()
			values := make([]*point, tc.before+tc.freed)
			for i := range values {
				values[i] = points.Alloc()
			}
			for _, p := range values[:tc.before] {
				l.Free(p)
			}
			if !l.Prefill(tc.promised) {
				t.Fatalf("Prefill(%d) = false", tc.promised)
			}
			for _, p := range values[tc.before:] {
				l.Free(p)
				if got, most := l.Len(), 255+tc.promised; got < tc.promised || got > most {
					t.Fatalf("%+v: %d values are at hand; want %d to %d", tc, got, tc.promised, most)
				}
			}
			a.SetMemoryLimit(1)
			var others []*point
			for p := points.Alloc(); p != nil; p = points.Alloc() {
				others = append(others, p)
			}
			seen := make(map[*point]bool)
			for i := range tc.promised {
				p := l.Alloc()
				if n := len(others) - 1; i%3 == 0 && n >= 0 {
					l.Free(others[n])
					others = others[:n]
				}
				if p == nil || seen[p] {
					t.Fatalf("%+v: Alloc %d of those that were promised = %p (known: %v)", tc, i, p, seen[p])
				}
				seen[p] = true
			}
			a.SetMemoryLimit(0)
			for l.Len() > 0 {
				seen[l.Alloc()] = true
			}
			for p := range seen {
				l.Free(p)
			}
			for _, p := range others {
				l.Free(p)
				if l.Len() > 255+tc.promised {
					t.Fatalf("%+v: %d values are at hand", tc, l.Len())
				}
			}
			l.Return()
			checkRest(t, points.Cache(), nil)
		}
	})
}

// A promise that was kept is over: the Local keeps no more than any other.
func TestLocalPromiseEnds(t *testing.T) {
	a := newAllocator(t, Options{})
	points := newPoints(t, a)
	l := points.Local()
	if !l.Prefill(5000) {
		t.Fatal("Prefill(5000) = false")
	}
	var values []*point
	for range 5000 {
		values = append(values, l.Alloc())
	}
	values = append(values, l.Alloc())
	for _, p := range values {
		l.Free(p)
		if l.Len() > 255 {
			t.Fatalf("%d values are at hand when nothing is promised any more; want 255 at most", l.Len())
		}
	}
	if !l.Prefill(3) { // they are there
		t.Fatal("Prefill(3) = false")
	}
	l.Return()
	for range 1000 {
		values = append(values[:0], points.Alloc(), points.Alloc())
		l.Free(values[0])
		l.Free(values[1])
	}
	if l.Len() > 255 {
		t.Errorf("%d values are at hand after Return ended the promise; want 255 at most", l.Len())
	}
	l.Return()
	checkRest(t, points.Cache(), nil)
}

// Prefill of what can never be there, or is not there now, says so and takes nothing.
func TestLocalPrefillTooMuch(t *testing.T) {
	engines(t, func(t *testing.T, a *Allocator) {
		points := newPoints(t, a)
		l := points.Local()
		if !l.Prefill(10) {
			t.Fatal("Prefill(10) = false")
		}
		refuse := func(n int) {
			t.Helper()
			used, refused := a.MemoryUsed(), a.MemoryRefused()
			if l.Prefill(n) || l.Len() != 10 || points.Cache().Stats().Objects != 10 {
				t.Errorf("Prefill(%d) left %d values at hand and %d live; want false, and 10 as before", n, l.Len(), points.Cache().Stats().Objects)
			}
			if a.MemoryRefused() == refused {
				t.Errorf("Prefill(%d) that returned false is not counted", n)
			}
			if n > 1<<30 && a.MemoryUsed() != used {
				t.Errorf("Prefill(%d) took %d bytes", n, a.MemoryUsed()-used)
			}
		}
		for _, limit := range []int64{0, 1 << 20, 1, math.MaxInt64} {
			a.SetMemoryLimit(limit)
			for _, n := range []int{math.MaxInt, math.MaxInt - 10, math.MaxInt/2 + 1, math.MaxInt / 4} {
				refuse(n)
			}
			if !l.Prefill(math.MinInt) || !l.Prefill(-1) || !l.Prefill(0) || !l.Prefill(10) {
				t.Error("Prefill of what is at hand = false")
			}
		}
		a.SetMemoryLimit(1 << 20)
		refuse(math.MaxInt >> 9)
		refuse(1 << 20 / int(unsafe.Sizeof(point{})))
		refuse(1<<20/int(unsafe.Sizeof(point{})) + 11)
		a.SetMemoryLimit(0)
		l.Return()
		checkRest(t, points.Cache(), nil)
	})
}

// Free of nil panics at once, and changes nothing.
func TestLocalFreeNil(t *testing.T) {
	a := newAllocator(t, Options{})
	points := newPoints(t, a)
	l := points.Local()
	for _, n := range []int{0, 1, 254, 255} {
		for l.Len() < n {
			l.Free(points.Alloc())
		}
		mustPanic(t, func() { l.Free(nil) }, `slabfs: cache "point": Free of nil: did Alloc return nil at the limit?`)
		if l.Len() != n {
			t.Errorf("%d values are at hand after Free(nil); want %d", l.Len(), n)
		}
	}
	for range 255 {
		p := l.Alloc()
		if p == nil {
			t.Fatal("Alloc = nil")
		}
		points.Free(p)
	}
	checkRest(t, points.Cache(), nil)
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

// Alloc and Free of a Local are worth having because they are inlined, and those of
// a Typed cost a call more if they are not.
func TestLocalIsInlined(t *testing.T) {
	if invariants.Enabled {
		t.Skip("this build checks more than can be inlined")
	}
	out, err := exec.Command("go", "test", "-c", "-o", t.TempDir()+"/alloc.test", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []string{"Local Alloc", "Local Free", "Typed Alloc", "Typed Free"} {
		generic, method, _ := strings.Cut(f, " ")
		want := "can inline (*" + generic + "[go.shape.struct { X int64; Y int64; Next slabfs/alloc.Ref[slabfs/alloc.point] }])." + method + "\n" // AllocRef is another
		if !strings.Contains(string(out), want) {
			t.Errorf("the compiler does not say %q", want)
		}
	}
}
