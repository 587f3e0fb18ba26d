package cpu

import (
	"sync"
	"unsafe"
)

// Current returns the number of the CPU that this thread runs on, below limit.
// The thread may be elsewhere when the caller looks at it, so it is a hint, good
// for choosing a lock. Where the CPU cannot be read cheaply it is a number that
// stays with the goroutine for most of its calls.
func Current(limit int) int {
	if canRead() {
		if n := int(readCPU()); n < limit {
			return n
		}
	}
	var here byte
	h := uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9e3779b97f4a7c15
	return int(h >> 32 * uint64(limit) >> 32)
}

// canRead tells whether readCPU tells the truth: there is an instruction for
// it, and it agrees with the kernel on two CPUs.
var canRead = sync.OnceValue(probeRead)
