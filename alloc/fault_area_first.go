//go:build fault_area_first

package alloc

const faultAreaFirst = 1 // read by the assembler
