package percpu

import (
	"fmt"
	"sync"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
)

const (
	maxShift = 26 // log2 of a region's size: 64 MiB of address space for each CPU
	minShift = 16

	// Shift is log2 of the distance of two regions as sequences have it. They are
	// not used where the regions had to be smaller.
	Shift = maxShift
)

// regions are the per-CPU regions of the process.
//
// Protection of fields: I, set by Reserve, then constant.
var regions struct {
	base  unsafe.Pointer // I: region of CPU 0
	shift uint           // I: log2 of the distance of two regions
	limit int            // I: CPU numbers are below it
}

var reserveOnce = sync.OnceValue(reserve)

// Reserve makes the package usable. It does its work once for the process and
// returns the same answer ever after. Nothing else may be called before it.
func Reserve() error { return reserveOnce() }

func reserve() error {
	regions.limit = max(cpu.Possible().Limit(), 1)
	for shift := uint(maxShift); ; shift-- {
		base, err := mapRegions(uintptr(regions.limit) << shift)
		if err == nil {
			regions.base, regions.shift = base, shift
			places.mu.Init(lockdep.Leaf)
			places.holes = []hole{{granule, 1 << shift}} // before it lies what is closed for ever
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
