package percpu

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
	"slabfs/internal/rseq"
)

// ErrNoSpace is wrapped by errors of NewPlace: the regions have no hole that is
// large enough, or the system has no memory for a hole.
var ErrNoSpace = errors.New("no room for another cache's per-CPU areas")

// A Place is the offset of a cache's area in every region, in bytes. 0 is the
// area that stays closed forever.
type Place uint32

// places allocates by first fit: NewPlace takes the start of the first hole
// that is large enough. FreePlace merges the new hole with its neighbours.
//
// So holes are used again for areas of every size. Areas of random sizes take
// 1.2 times the space that they need themselves (TestChurn). The worst order of
// calls takes about 10 times the most that was ever in use: areas have 1 to 513
// granules, and first fit needs log2 of that ratio (Robson 1977).
//
// Protection of fields: L, mu.
var places struct {
	mu    lockdep.Mutex
	holes []hole // L: by address; no two of them touch
}

// A hole is a part of the regions that no cache uses, in bytes from their
// start. It is zeroed on every CPU.
type hole struct{ at, end Place }

// fit returns where an area of n bytes can begin in the hole. No area begins at
// the offsets in a page where threads have their rseq areas. This wastes at
// most an eighth, if all areas are small.
func (h hole) fit(n Place) (at Place, ok bool) {
	at = h.at
	if o := at % rsPage; o >= rseq.PageBegin && o < rseq.PageEnd {
		at += rseq.PageEnd - o
	}
	return at, at < h.end && n <= h.end-at
}

// rsPage is the page size that rseq.PageBegin and rseq.PageEnd refer to.
const rsPage = 4096

// granules returns how many granules an area of that capacity needs.
func granules(capacity int) int { return (headerSize + 8*capacity + granule - 1) / granule }

// Bytes returns how many bytes an area of that capacity takes on each CPU that
// uses it.
func Bytes(capacity int) int { return granules(capacity) * granule }

// NewPlace returns a place for areas of up to capacity objects, zeroed on every
// CPU. A capacity above MaxCap is an error. All other errors wrap ErrNoSpace.
func NewPlace(capacity int) (Place, error) {
	if capacity < 0 || capacity > MaxCap {
		return 0, fmt.Errorf("place areas of %d objects: at most %d", capacity, MaxCap)
	}
	n := Place(Bytes(capacity))
	places.mu.Lock()
	defer places.mu.Unlock()
	for i, h := range places.holes {
		at, ok := h.fit(n)
		if !ok {
			continue
		}
		if err := grow(at + n); err != nil {
			return 0, fmt.Errorf("place areas of %d objects: %w: %w", capacity, ErrNoSpace, err)
		}
		var rest [2]hole
		left := rest[:0]
		for _, r := range []hole{{h.at, at}, {at + n, h.end}} {
			if r.at < r.end {
				left = append(left, r)
			}
		}
		places.holes = slices.Replace(places.holes, i, i+1, left...)
		return at, nil
	}
	return 0, fmt.Errorf("place areas of %d objects: %w", capacity, ErrNoSpace)
}

// FreePlace frees a place that is not used any more. It zeroes the place's
// areas on the CPUs of used. The caller must not have opened them on other
// CPUs. The next NewPlace may use a part of the place at once.
//
// Preconditions: a fence has ended every sequence that knew the place.
func FreePlace(place Place, capacity int, used cpu.Mask) {
	for n := range used.All() {
		clear(unsafe.Slice((*byte)(unsafe.Pointer(At(place, n))), Bytes(capacity)))
	}
	places.mu.Lock()
	defer places.mu.Unlock()
	addHole(hole{place, place + Place(Bytes(capacity))})
}

// addHole adds a hole and merges it with the holes that it touches.
//
// Preconditions: places.mu is held.
func addHole(h hole) {
	holes := places.holes
	i, _ := slices.BinarySearchFunc(holes, h.at, func(h hole, at Place) int { return int(h.at) - int(at) })
	from, to := i, i
	if i > 0 && holes[i-1].end >= h.at {
		from--
	}
	if i < len(holes) && holes[i].at <= h.end {
		to++
	}
	if from < i && holes[from].end > h.at || to > i && holes[i].at < h.end {
		panic(fmt.Sprintf("slabfs: per-CPU areas at %d to %d are freed twice", h.at, h.end))
	}
	for _, next := range holes[from:to] {
		h.at, h.end = min(h.at, next.at), max(h.end, next.end)
	}
	places.holes = slices.Replace(holes, from, to, h)
}
