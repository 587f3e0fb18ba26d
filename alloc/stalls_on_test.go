//go:build fault_sequence

package alloc

// stallInsts is how many instructions of stalls lie in a sequence.
const stallInsts = 30
