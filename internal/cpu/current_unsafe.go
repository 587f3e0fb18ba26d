package cpu

import (
	"sync/atomic"
	"unsafe"
)

// Current returns the number of the CPU that this thread runs on. The number is
// below limit. It is a hint, because the thread may have moved when the caller
// uses it; that is good enough to choose a lock. If the CPU cannot be read
// cheaply, Current returns a number that is the same for most calls of one
// goroutine. It costs one call and no system call.
func Current(limit int) int { return current(limit) }

// CanRead is yes if readCPU can be trusted: the instruction exists, and it
// agrees with the kernel on two CPUs. The name is exported for assembly in
// other packages.
var CanRead struct {
	_ [aloneAt]byte
	atomic.Int32
	_ [60]byte
}

// aloneAt gives the word a cache line that no other variable shares. The
// runtime writes some of its variables all the time.
const aloneAt = 64

const yes, no = 1, 2

// currentSlow is Current in three cases: before the probe, if the CPU cannot be
// read, and for CPUs beyond the limit.
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
