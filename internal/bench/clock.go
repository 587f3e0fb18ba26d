package bench

import (
	"math/rand/v2"
	"runtime"
	"time"
)

var began = time.Now()

// stopwatch returns how long f has a CPU. On a machine that does nothing else that is how
// long it takes; on any other the turns of other programs would drown what is measured.
func stopwatch(f func()) (t time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	somewhere(func() {
		start := threadTime()
		f()
		t = threadTime() - start
	})
	return t
}

// somewhere calls f with its stack at another place in a page each time. Where a hot word
// of the stack has the page offset of a hot word elsewhere, processors take the load of one for
// dependent on the store to the other, and a pair takes up to twice as long.
func somewhere(f func()) { below(rand.IntN(pageSize/frame), f) }

const (
	pageSize = 4096
	frame    = 32 // of below, in bytes, or about
)

// below calls f n frames further down. The result makes them frames.
func below(n int, f func()) int {
	if n == 0 {
		f()
		return 0
	}
	return below(n-1, f) + 1
}
