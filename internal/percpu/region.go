package percpu

import (
	"fmt"
	"math"
	"sync"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

const (
	maxShift = 26 // log2 of a region's size: 64 MiB of address space for each CPU
	minShift = 16

	// Shift is log2 of the distance between two regions, as sequences
	// assume it. If the regions had to be smaller, sequences are not used.
	Shift = maxShift
)

// growStep is the most of each region that is made usable ahead of need, in
// bytes.
const growStep = 64 << 10

// regions are the per-CPU regions of the process. Address space is reserved for
// all of them at once. They become usable together, only as far as there are
// places. So reserved space costs nothing, also when the process locks its
// memory, when a limit counts its memory, and in a core dump. The first bytes
// of each region are usable from the start: there lies the area that is closed
// forever, and sequences read it.
//
// Protection of fields: I, set by Reserve, then constant; L, places.mu.
var regions struct {
	base  unsafe.Pointer // I: region of CPU 0
	shift uint           // I: log2 of the distance between two regions
	limit int            // I: all CPU numbers are below it
	grown Place          // L: bytes below it are usable on every CPU
}

var reserveOnce = sync.OnceValue(reserve)

// Reserve makes the package usable. It does its work once for the process and
// always returns the same answer. It must be called before everything else
// here.
func Reserve() error { return reserveOnce() }

func reserve() error {
	regions.limit = max(cpu.Possible().Limit(), 1)
	places.mu.Init(lockdep.Leaf)
	places.mu.Lock()
	defer places.mu.Unlock()
	for shift := uint(maxShift); ; shift-- {
		n := uint64(regions.limit) << shift
		if n > math.MaxInt/2 { // only where addresses have 32 bits
			continue
		}
		base, err := pages.ReserveSpace(uintptr(n))
		if err == nil {
			regions.base, regions.shift = base, shift
			// The closed area lies before the first hole.
			places.holes = []hole{{granule, 1 << shift}}
			return grow(granule)
		}
		if shift == minShift {
			return fmt.Errorf("reserve per-CPU regions for %d CPUs (is there a limit, ulimit -v or -l?): %w", regions.limit, err)
		}
	}
}

// grow makes the regions usable up to end. To keep calls few, it also asks for
// some more. The system may refuse those.
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

// growTo makes the regions usable up to end and no further. If it fails
// halfway, the next call repeats the part that was done.
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

// At returns a cache's area on a CPU. It checks nothing.
func At(place Place, cpu int) *Area {
	return (*Area)(unsafe.Add(regions.base, uintptr(cpu)<<regions.shift+uintptr(place)))
}

// DefaultCap returns the sheaf capacity that Linux 7.0 uses for objects of that
// size in bytes: 4, 12, 28 or 60. An area of each of these capacities leaves
// one word of its last granule unused.
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
