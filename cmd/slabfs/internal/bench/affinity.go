package bench

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onCPU binds the goroutine to the n-th of the CPUs that the process may use,
// counted from 0, and returns a function that undoes it.
func onCPU(n int) func() {
	runtime.LockOSThread()
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return runtime.UnlockOSThread
	}
	n %= max(may.Count(), 1)
	for cpu := range 64 * len(may) {
		if may.IsSet(cpu) {
			if n == 0 {
				one.Set(cpu)
				break
			}
			n--
		}
	}
	if unix.SchedSetaffinity(0, &one) != nil {
		return runtime.UnlockOSThread
	}
	return func() {
		if unix.SchedSetaffinity(0, &may) == nil { // if that fails, the thread stays locked and ends with the goroutine
			runtime.UnlockOSThread()
		}
	}
}
