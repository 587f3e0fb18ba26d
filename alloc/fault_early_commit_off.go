//go:build !race && !slabfs_invariants && !fault_early_commit

package alloc

const allocBulkLen = 178 // bytes from entry to the end of the commit store
