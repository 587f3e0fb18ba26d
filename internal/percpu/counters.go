package percpu

import (
	"sync/atomic"
	"unsafe"

	"slabfs/internal/cpu"
)

// Counters are a granule of each CPU's region that holds no objects but plain
// words. As in an area the first one is 0 where the CPU has not opened it.
type Counters [granule / 8]atomic.Uint64

const countersCap = (granule - headerSize) / 8

// ClosedCounters is what sequences find on CPU 0 that must not find any: zeroes, on
// each CPU, for ever.
func ClosedCounters() *Counters { return CountersAt(0, 0) }

// NewCounters returns a place for counters, zeroed on every CPU.
func NewCounters() (Place, error) { return NewPlace(countersCap) }

// CountersAt returns the counters of a place on a CPU.
func CountersAt(place Place, cpu int) *Counters {
	return (*Counters)(unsafe.Pointer(At(place, cpu)))
}

// FreeCounters takes back a place of counters that nobody uses any more, and
// zeroes them on the given CPUs: the only ones where they were written.
func FreeCounters(place Place, used cpu.Mask) { FreePlace(place, countersCap, used) }
