package alloc

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
)

// pinned runs f on a thread of its own that stays on one CPU.
func pinned(t testing.TB, n int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its changed affinity
		var one unix.CPUSet
		one.Set(n)
		err := unix.SchedSetaffinity(0, &one)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("no thread can be bound to CPU %d: %v", n, err)
	}
}

// twoCPUs returns two CPUs that this process may use.
func twoCPUs(t testing.TB) (first, second int) {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Skipf("no CPU affinity here: %v", err)
	}
	var found []int
	for n := range cpu.Possible().All() {
		if may.IsSet(n) {
			found = append(found, n)
		}
	}
	if len(found) < 2 {
		t.Skipf("one CPU only: %v", found)
	}
	return found[0], found[1]
}
