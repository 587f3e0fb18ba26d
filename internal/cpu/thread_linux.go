package cpu

import (
	"errors"
	"math/bits"
	"runtime"

	"golang.org/x/sys/unix"
)

// Aside runs f on a thread that ends after it, and what f changes of the thread,
// its affinity or its registration, ends with it. It is never the main thread,
// which does not end: a goroutine that exits there locked leaves it as it is,
// parked for ever.
func Aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked, except on the main thread
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			Aside(f) // elsewhere: this thread is taken
			return
		}
		f()
	}()
	<-done
}

// affinity returns the CPUs that the calling thread may run on, as a mask that
// has room for every number that a CPU of the system can have: the kernel refuses
// a smaller one. Nil means that the system does not tell.
func affinity() unix.CPUSetDynamic {
	for room := 64; room <= maxCPU; room += 64 {
		set := unix.NewCPUSet(room)
		if err := unix.SchedGetaffinityDynamic(0, set); err == nil {
			return set
		} else if !errors.Is(err, unix.EINVAL) {
			return nil
		}
	}
	return nil
}

// maskRoom returns how many CPU numbers the system's own masks have room for, or
// 0 if that cannot be told.
func maskRoom() int { return len(affinity()) * bits.UintSize }
