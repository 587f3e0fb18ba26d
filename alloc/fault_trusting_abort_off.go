//go:build fault_sequence && !fault_trusting_abort

package alloc

const trustingAbort = false
