//go:build fault_header_first

package alloc

const faultHeaderFirst = 1 // read by the assembler
