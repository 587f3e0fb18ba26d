//go:build fault_slow

package alloc

const faultSlow = 1 // read by the assembler
