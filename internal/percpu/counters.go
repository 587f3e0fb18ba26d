package percpu

import (
	"sync/atomic"
	"unsafe"

	"slabfs/internal/cpu"
)

// Counters are a granule of each CPU's region that holds plain words instead of
// objects. As in an area, the first word is 0 if the CPU has not opened it.
type Counters [granule / 8]atomic.Uint64

const countersCap = (granule - headerSize) / 8

// ClosedCounters returns counters that are zero on each CPU forever. Sequences
// that must not find any counters get these. The result is the counters of CPU
// 0.
func ClosedCounters() *Counters { return CountersAt(0, 0) }

// NewCounters returns a place for counters, zeroed on every CPU. Its errors
// wrap ErrNoSpace.
func NewCounters() (Place, error) { return NewPlace(countersCap) }

// CountersAt returns the counters of a place on a CPU.
func CountersAt(place Place, cpu int) *Counters {
	return (*Counters)(unsafe.Pointer(At(place, cpu)))
}

// FreeCounters frees a place of counters that are not used any more. It zeroes
// them on the CPUs of used. The caller must not have written them on other
// CPUs.
func FreeCounters(place Place, used cpu.Mask) { FreePlace(place, countersCap, used) }
