//go:build fault_early_commit

package alloc

const (
	faultEarlyCommit = 1 // for the assembler
	allocBulkLen     = 115
)
