package percpu

import (
	"fmt"
	"sync"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

const (
	maxShift = 26 // log2 of a region's size: 64 MiB of address space for each CPU
	minShift = 16

	// Shift is log2 of the distance of two regions as sequences have it. They are
	// not used where the regions had to be smaller.
	Shift = maxShift
)

// growStep is how much of each region is made usable ahead of need, at most.
const growStep = 64 << 10

// regions are the per-CPU regions of the process. They are reserved as a whole,
// and all of them are made usable together, as far as there are places. So what
// is only reserved costs nothing: where the process locks its memory, where a
// limit counts it, and in a core dump. The first bytes of each are usable from
// the begin: sequences look at the area that is closed for ever there.
//
// Protection of fields: I, set by Reserve, then constant; L, places.mu.
var regions struct {
	base  unsafe.Pointer // I: region of CPU 0
	shift uint           // I: log2 of the distance of two regions
	limit int            // I: CPU numbers are below it
	grown Place          // L: bytes below it are usable on every CPU
}

var reserveOnce = sync.OnceValue(reserve)

// Reserve makes the package usable. It does its work once for the process and
// returns the same answer ever after. Nothing else may be called before it.
func Reserve() error { return reserveOnce() }

func reserve() error {
	regions.limit = max(cpu.Possible().Limit(), 1)
	places.mu.Init(lockdep.Leaf)
	places.mu.Lock()
	defer places.mu.Unlock()
	for shift := uint(maxShift); ; shift-- {
		base, err := pages.ReserveSpace(uintptr(regions.limit) << shift)
		if err == nil {
			regions.base, regions.shift = base, shift
			places.holes = []hole{{granule, 1 << shift}} // before it lies what is closed for ever
			return grow(granule)
		}
		if shift == minShift {
			return fmt.Errorf("reserve per-CPU regions for %d CPUs (is there a limit, ulimit -v or -l?): %w", regions.limit, err)
		}
	}
}

// grow makes the regions usable up to end, and for some time to come, so that few
// calls are needed. The system may refuse the latter.
//
// Preconditions: places.mu is held.
func grow(end Place) error {
	if end <= regions.grown {
		return nil
	}
	mask := Place(pages.SystemPage()) - 1
	end = (end + mask) &^ mask
	if err := growTo(end); err != nil {
		return fmt.Errorf("make %d KiB of per-CPU memory usable for %d CPUs (is there a limit, ulimit -d, or overcommit?): %w",
			end>>10, regions.limit, err)
	}
	_ = growTo(min(end+min(end, growStep), 1<<regions.shift))
	return nil
}

// growTo is grow without a reserve. What of it was done before it fails is done
// again the next time.
//
// Preconditions: places.mu is held; end is at a system page.
func growTo(end Place) error {
	for n := range regions.limit {
		if err := pages.Commit(unsafe.Pointer(At(regions.grown, n)), uintptr(end-regions.grown)); err != nil {
			return err
		}
	}
	regions.grown = end
	return nil
}

// At returns a cache's area on a CPU.
func At(place Place, cpu int) *Area {
	return (*Area)(unsafe.Add(regions.base, uintptr(cpu)<<regions.shift+uintptr(place)))
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
