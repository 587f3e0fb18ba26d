package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime returns how long this thread has run on a CPU.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return time.Since(began)
	}
	return time.Duration(t.Nano())
}
