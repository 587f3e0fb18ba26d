//go:build fault_early_commit

package alloc

const (
	faultEarlyCommit = 1 // read by the assembler
	allocBulkLen     = 115
)
