package cpu

import (
	"io/fs"
	"os"
	"runtime"
	"sync"
)

// Possible returns the CPUs that the machine can ever have. Their numbers may
// be sparse. They are read once, because the kernel fixes the set at boot.
func Possible() Mask { return possible() }

var possible = sync.OnceValue(func() Mask {
	if fake.Count() > 0 {
		return fake
	}
	return readPossible(system)
})

// system is where the machine's CPUs are listed.
var system = os.DirFS("/sys/devices/system/cpu")

var fake Mask

// FakePossible makes Possible return m. It is for tests that run in a process
// of their own, and must be called before the first call of Possible.
func FakePossible(m Mask) { fake = m }

// Present returns the CPUs that the machine has now. If the system does not
// tell, it returns as many as runtime.NumCPU counts.
func Present() Mask {
	if m := list(system, "present"); m.Count() > 0 {
		return m
	}
	return first(runtime.NumCPU())
}

// readPossible reads which CPUs are possible. Many sandboxes have no list of
// them. Then every number is possible that fits into the system's masks. The
// runtime's count would be too low: it counts only the CPUs that the process
// may use, and a single usable CPU may have the highest number.
func readPossible(system fs.FS) Mask {
	if m := list(system, "possible"); m.Count() > 0 {
		return m
	}
	return first(max(maskRoom(), runtime.NumCPU()))
}

// first returns the set of all numbers below n.
func first(n int) (m Mask) {
	for i := range n {
		m.Set(i)
	}
	return m
}
