//go:build !linux

package alloc

import "testing"

func pinned(t testing.TB, n int, _ func()) {
	t.Helper()
	t.Skipf("no thread can be bound to CPU %d: no such call on this system", n)
}

func twoCPUs(t testing.TB) (first, second int) {
	t.Helper()
	t.Skip("no CPU affinity on this system")
	return 0, 0
}
