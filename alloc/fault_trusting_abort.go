//go:build fault_trusting_abort

package alloc

const (
	faultTrustingAbort = 1 // read by the assembler
	trustingAbort      = true
)
