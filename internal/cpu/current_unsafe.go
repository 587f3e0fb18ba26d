package cpu

import (
	"sync/atomic"
	"unsafe"
)

// Current returns the number of the CPU that this thread runs on, below limit.
// The thread may be elsewhere when the caller looks at it, so it is a hint, good
// for choosing a lock. Where the CPU cannot be read cheaply it is a number that
// stays with the goroutine for most of its calls.
func Current(limit int) int { return current(limit) }

// CanRead is yes if readCPU tells the truth: there is an instruction for it, and it
// agrees with the kernel on two CPUs. It has this name for assembly elsewhere.
var CanRead struct {
	_ [aloneAt]byte
	atomic.Int32
	_ [60]byte
}

// aloneAt leaves the word a cache line that no other variable shares: some of the runtime
// are written all the time.
const aloneAt = 64

const yes, no = 1, 2

// currentSlow is Current before the probe, where the CPU cannot be read, and for
// CPUs beyond the limit.
func currentSlow(limit int) int {
	if CanRead.Load() == 0 {
		answer := int32(no)
		if probeRead() {
			answer = yes
		}
		CanRead.CompareAndSwap(0, answer)
		if answer == yes {
			return Current(limit)
		}
	}
	var here byte
	h := uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9e3779b97f4a7c15
	return int(h >> 32 * uint64(limit) >> 32)
}
