package cpu

import (
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
	return readMask("possible")
})

var fake Mask

// FakePossible makes Possible return m. It is for tests of a process of their
// own, and must be called before anybody asks.
func FakePossible(m Mask) { fake = m }

// Present returns the CPUs that the machine has now.
func Present() Mask { return readMask("present") }

// readMask reads a cpulist of the machine. Where there is none, the CPUs that
// the runtime counts are taken to be 0 to n-1.
func readMask(name string) Mask {
	if text, err := os.ReadFile("/sys/devices/system/cpu/" + name); err == nil {
		if m, err := ParseList(string(text)); err == nil && m.Count() > 0 {
			return m
		}
	}
	var m Mask
	for n := range runtime.NumCPU() {
		m.Set(n)
	}
	return m
}
