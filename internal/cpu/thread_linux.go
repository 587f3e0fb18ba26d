package cpu

import (
	"errors"
	"math/bits"
	"runtime"

	"golang.org/x/sys/unix"
)

// Aside runs f on a new thread that ends after f. So f's changes to the thread,
// such as its affinity or its registration, end too. The thread is never the
// main thread, because that one does not end: if a goroutine that is locked to
// it exits, the main thread stays parked forever, with the changes.
func Aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, except on the main thread
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			Aside(f) // elsewhere: this goroutine occupies the main thread
			return
		}
		f()
	}()
	<-done
}

// affinity returns the CPUs that the calling thread may run on. The mask has
// room for every number that a CPU of the system can have, because the kernel
// refuses smaller masks. It is nil if the system does not tell.
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

// maskRoom returns how many CPU numbers fit into the system's own masks, or 0
// if the system does not tell.
func maskRoom() int { return len(affinity()) * bits.UintSize }
