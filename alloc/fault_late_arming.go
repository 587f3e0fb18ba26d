//go:build fault_late_arming

package alloc

const faultLateArming = 1 // read by the assembler
