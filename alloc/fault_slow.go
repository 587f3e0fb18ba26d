//go:build fault_slow

package alloc

const faultSlow = 1 // for the assembler
