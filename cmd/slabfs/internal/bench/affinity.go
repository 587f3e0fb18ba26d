package bench

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onCPU binds the goroutine to a CPU, counted from 0 among those that the process may use, and
// returns what lets it go again.
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
		if unix.SchedSetaffinity(0, &may) == nil { // or else the thread ends with the goroutine
			runtime.UnlockOSThread()
		}
	}
}
