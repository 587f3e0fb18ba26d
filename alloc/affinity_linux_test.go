package alloc

import (
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
)

// pinned runs f on a thread of its own that stays on one CPU.
func pinned(t testing.TB, n int, f func()) {
	t.Helper()
	var err error
	cpu.Aside(func() {
		var one unix.CPUSet
		one.Set(n)
		if err = unix.SchedSetaffinity(0, &one); err == nil {
			f()
		}
	})
	if err != nil {
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
