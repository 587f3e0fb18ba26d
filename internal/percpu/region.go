package percpu

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
	"slabfs/internal/rseq"
)

const (
	maxShift = 26 // log2 of a region's size: 64 MiB of address space for each CPU
	minShift = 16
	pageSize = 4096

	// Shift is log2 of the distance of two regions as sequences have it. They are
	// not used where the regions had to be smaller.
	Shift = maxShift
)

// ErrNoSpace is returned by NewPlace when the regions are full.
var ErrNoSpace = errors.New("no room for another cache's per-CPU areas")

// A Place is where a cache's area lies in every region, in bytes from its begin.
// 0 is the area that stays closed for ever.
type Place uint32

// regions are the per-CPU regions of the process.
//
// Protection of fields: I, set by Reserve, then constant; L, mu.
var regions struct {
	base  unsafe.Pointer // I: region of CPU 0
	shift uint           // I: log2 of the distance of two regions
	limit int            // I: CPU numbers are below it

	mu   lockdep.Mutex
	end  Place           // L: places below it were handed out once
	free map[int][]Place // L: places that were given back, by granules
}

var reserveOnce = sync.OnceValue(reserve)

// Reserve makes the package usable. It does its work once for the process and
// returns the same answer ever after. Nothing else may be called before it.
func Reserve() error { return reserveOnce() }

func reserve() error {
	regions.mu.Init(lockdep.Leaf)
	regions.end = granule
	regions.free = make(map[int][]Place)
	regions.limit = max(cpu.Possible().Limit(), 1)
	for shift := uint(maxShift); ; shift-- {
		base, err := mapRegions(uintptr(regions.limit) << shift)
		if err == nil {
			regions.base, regions.shift = base, shift
			return nil
		}
		if shift == minShift {
			return fmt.Errorf("reserve per-CPU regions for %d CPUs: %w", regions.limit, err)
		}
	}
}

// At returns a cache's area on a CPU.
func At(place Place, cpu int) *Area {
	return (*Area)(unsafe.Add(regions.base, uintptr(cpu)<<regions.shift+uintptr(place)))
}

// granules returns how many granules an area of that capacity takes.
func granules(capacity int) int { return (headerSize + 8*capacity + granule - 1) / granule }

// Bytes returns how many bytes an area of that capacity takes on each CPU that uses it.
func Bytes(capacity int) int { return granules(capacity) * granule }

// NewPlace returns a place for areas of up to capacity objects, zeroed on every CPU.
func NewPlace(capacity int) (Place, error) {
	if capacity < 0 || capacity > MaxCap {
		return 0, fmt.Errorf("place areas of %d objects: at most %d", capacity, MaxCap)
	}
	n := granules(capacity)
	regions.mu.Lock()
	defer regions.mu.Unlock()
	if list := regions.free[n]; len(list) > 0 {
		regions.free[n] = list[:len(list)-1]
		return list[len(list)-1], nil
	}
	at := regions.end
	if o := at % pageSize; o >= rseq.PageBegin && o < rseq.PageEnd { // left to threads' rseq areas
		at += rseq.PageEnd - o
	}
	end := uint64(at) + uint64(n)*granule
	if end > 1<<regions.shift {
		return 0, fmt.Errorf("place areas of %d objects: %w", capacity, ErrNoSpace)
	}
	regions.end = Place(end)
	return at, nil
}

// FreePlace takes back a place that nobody uses any more, and zeroes its areas
// on the given CPUs: the only ones where they were opened.
func FreePlace(place Place, capacity int, used cpu.Mask) {
	for n := range used.All() {
		clear(unsafe.Slice((*byte)(unsafe.Pointer(At(place, n))), Bytes(capacity)))
	}
	regions.mu.Lock()
	defer regions.mu.Unlock()
	n := granules(capacity)
	regions.free[n] = append(regions.free[n], place)
}

// DefaultCap returns the sheaf capacity of Linux 7.0 for objects of that size in
// bytes: 4, 12, 28 or 60. Each fills its granules but for one word.
func DefaultCap(size int) int {
	switch {
	case size >= 4096:
		return 4
	case size >= 1024:
		return 12
	case size >= 256:
		return 28
	default:
		return 60
	}
}
