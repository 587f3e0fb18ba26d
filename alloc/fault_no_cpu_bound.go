//go:build fault_no_cpu_bound

package alloc

const faultNoCPUBound = 1 // read by the assembler
