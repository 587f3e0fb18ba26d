package percpu

import (
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/rseq"
)

var longFlag = flag.Bool("slabfs.long", false, "make and destroy ten million areas, which takes a minute")

// A taken place is somebody's.
type taken struct {
	place    Place
	capacity int
}

func (p taken) end() Place { return p.place + Place(Bytes(p.capacity)) }

func take(t *testing.T, capacity int) taken {
	t.Helper()
	place, err := NewPlace(capacity)
	if err != nil {
		t.Fatal(err)
	}
	if o := place % 4096; place%granule != 0 || place == 0 || o >= rseq.PageBegin && o < rseq.PageEnd {
		t.Fatalf("place %d, at page offset %d: want one at a granule, and not where rseq areas are", place, o)
	}
	return taken{place, capacity}
}

func (p taken) free() { FreePlace(p.place, p.capacity, cpu.Mask{}) }

// holesNow returns a copy of the list.
func holesNow() []hole {
	places.mu.Lock()
	defer places.mu.Unlock()
	return slices.Clone(places.holes)
}

// shorten makes the regions end early for the length of a test.
func shorten(t *testing.T, end Place) {
	t.Helper()
	old := places.holes
	t.Cleanup(func() { places.holes = old })
	places.holes = []hole{{granule, end}}
}

// checkPlaces compares what is taken, and nothing else is, with the holes: they
// cover the region together, nothing twice, and no hole touches another.
func checkPlaces(t *testing.T, all []taken, end Place) {
	t.Helper()
	next := Place(granule)
	was := true // a place, or the begin
	holes := holesNow()
	sorted := slices.SortedFunc(slices.Values(all), func(a, b taken) int { return int(a.place) - int(b.place) })
	for len(holes) > 0 || len(sorted) > 0 {
		switch {
		case len(holes) > 0 && holes[0].at == next && was:
			next, holes, was = holes[0].end, holes[1:], false
		case len(sorted) > 0 && sorted[0].place == next:
			next, sorted, was = sorted[0].end(), sorted[1:], true
		default:
			t.Fatalf("at %d: the next holes are %v, the next places %v", next, holes[:min(len(holes), 3)], sorted[:min(len(sorted), 3)])
		}
	}
	if next != end {
		t.Fatalf("holes and places end at %d; want %d", next, end)
	}
}

func TestPlaces(t *testing.T) {
	before := holesNow()
	var all []taken
	for i := range 2000 {
		all = append(all, take(t, []int{0, 1, 4, 12, 28, 60, 200, MaxCap}[i%8]))
	}
	checkPlaces(t, all, 1<<regions.shift)
	last := all[len(all)-1]
	At(last.place, 0).Open(last.capacity)
	for _, i := range rand.Perm(len(all)) {
		FreePlace(all[i].place, all[i].capacity, cpu.MaskOf(0))
	}
	if after := holesNow(); !slices.Equal(before, after) {
		t.Errorf("the holes are %v after all places are free again; want %v", after, before)
	}
	if a := At(last.place, 0); *a != (Area{}) {
		t.Errorf("a free area holds %+v; want zeroes", *a)
	}
}

// What was split for small areas is merged for large ones, and the other way round.
func TestSplitAndMerge(t *testing.T) {
	const end = 2 << 20
	shorten(t, end)
	fill := func(capacity int) (all []taken) {
		for {
			place, err := NewPlace(capacity)
			if errors.Is(err, ErrNoSpace) {
				return all
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, taken{place, capacity})
		}
	}
	counts := make(map[int]int)
	for range 2 {
		for _, capacity := range []int{1000, MaxCap, 60, 1000, 4} {
			all := fill(capacity)
			checkPlaces(t, all, end)
			if n := counts[capacity]; n > 0 && n != len(all) {
				t.Errorf("there is room for %d areas of %d; %d at first", len(all), capacity, n)
			}
			counts[capacity] = len(all)
			if most := end / Bytes(capacity); len(all) < most*7/8-1 {
				t.Errorf("there is room for %d areas of %d; want %d, less an eighth at most", len(all), capacity, most)
			}
			for _, p := range all {
				p.free()
			}
		}
	}
}

// A thousand caches of random capacities come and go for ever, and waste little.
func TestChurn(t *testing.T) {
	steps := 100_000
	if *longFlag {
		steps = 10_000_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var all []taken
	var live, highest Place
	for i := range steps {
		if len(all) == 1000 {
			n := r.IntN(len(all))
			live -= Place(Bytes(all[n].capacity))
			all[n].free()
			all[n] = all[len(all)-1]
			all = all[:len(all)-1]
		}
		p := take(t, r.IntN(MaxCap+1))
		all = append(all, p)
		live += Place(Bytes(p.capacity))
		highest = max(highest, p.end())
		if i%(steps/20) == 0 {
			checkPlaces(t, all, 1<<regions.shift)
		}
	}
	t.Logf("%d bytes of areas lie below %d, in %d holes", live, highest, len(holesNow()))
	if mean := Place(Bytes(MaxCap/2) * 1000); highest > mean*2 {
		t.Errorf("%d bytes of areas on average reached up to %d", mean, highest)
	}
	for _, p := range all {
		p.free()
	}
	checkPlaces(t, nil, 1<<regions.shift)
}

// A place that is freed twice would become two caches'.
func TestFreePlaceTwice(t *testing.T) {
	a, b, c := take(t, 60), take(t, 60), take(t, 60)
	mustPanic := func(what string, p taken) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: freed without a panic", what)
			}
		}()
		p.free()
	}
	b.free()
	mustPanic("the same", b)
	mustPanic("the begin of a hole", taken{b.place, 1})
	mustPanic("a part of a hole", taken{b.place + granule, 1})
	mustPanic("more than a hole", taken{b.place - granule, 100})
	a.free()
	mustPanic("merged", a)
	c.free()
	checkPlaces(t, nil, 1<<regions.shift)
}

func TestNewPlaceRefuses(t *testing.T) {
	for _, n := range []int{-1, MaxCap + 1} {
		if p, err := NewPlace(n); err == nil {
			t.Errorf("NewPlace(%d) = %d; want an error", n, p)
		}
	}
}

// The first area that is closed for ever is nobody's.
func TestClosedPlace(t *testing.T) {
	if holes := holesNow(); holes[0].at < Place(unsafe.Sizeof(Counters{})) {
		t.Errorf("the first hole begins at %d", holes[0].at)
	}
}

func BenchmarkPlace(b *testing.B) {
	for b.Loop() {
		p, err := NewPlace(60)
		if err != nil {
			b.Fatal(err)
		}
		FreePlace(p, 60, cpu.Mask{})
	}
}
