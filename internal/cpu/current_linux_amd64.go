package cpu

import (
	"math/bits"

	"golang.org/x/sys/unix"
)

// current is Current. It is in assembly so that it costs one call.
func current(limit int) int

// readCPU returns the CPU number that Linux keeps in TSC_AUX. It reads the
// number with RDPID.
func readCPU() uint32

// cpuid runs CPUID.
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// probeRead compares readCPU with the kernel's answer on the first and the last
// CPU that the process may use. A hypervisor may offer the instruction without
// setting the register.
func probeRead() bool {
	if max, _, _, _ := cpuid(0, 0); max < 7 {
		return false
	}
	if _, _, ecx, _ := cpuid(7, 0); ecx>>22&1 == 0 {
		return false // no RDPID
	}
	var same bool
	Aside(func() { same = agree() })
	return same
}

// agree does the comparison of probeRead. It changes the affinity of the
// calling thread.
func agree() bool {
	may := affinity()
	first, last := -1, -1
	for n := range len(may) * bits.UintSize {
		if may.IsSet(n) {
			if first < 0 {
				first = n
			}
			last = n
		}
	}
	for _, n := range []int{first, last} {
		if n < 0 {
			return false
		}
		one := unix.NewCPUSet(n + 1)
		one.Set(n)
		if unix.SchedSetaffinityDynamic(0, one) != nil || int(readCPU()) != n {
			return false
		}
	}
	return true
}
