//go:build fault_trusting_abort

package alloc

const (
	faultTrustingAbort = 1 // for the assembler
	trustingAbort      = true
)
