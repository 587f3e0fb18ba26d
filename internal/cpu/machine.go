package cpu

import (
	"io/fs"
	"os"
	"runtime"
	"sync"
)

// Possible returns the CPUs that the machine can ever have; numbers may be
// sparse. It is read once: the kernel fixes the set at boot.
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

// FakePossible makes Possible return m. It is for tests of a process of their
// own, and must be called before anybody asks.
func FakePossible(m Mask) { fake = m }

// Present returns the CPUs that the machine has now. Where it does not tell, they
// are as many as the runtime counts.
func Present() Mask {
	if m := list(system, "present"); m.Count() > 0 {
		return m
	}
	return first(runtime.NumCPU())
}

// readPossible reads which CPUs are possible. Where there is no list, as in many
// sandboxes, it is every number that the system's masks have room for. The
// runtime's count would not do: it counts the CPUs that the process may use, and
// the only one of these may have the highest number.
func readPossible(system fs.FS) Mask {
	if m := list(system, "possible"); m.Count() > 0 {
		return m
	}
	return first(max(maskRoom(), runtime.NumCPU()))
}

// first returns the set of the numbers below n.
func first(n int) (m Mask) {
	for i := range n {
		m.Set(i)
	}
	return m
}
