//go:build fault_sequence && !fault_long_section

package alloc

const faultExtra = 0
