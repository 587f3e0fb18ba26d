//go:build !fault_unlink_under_locks

package fault

// UnlinkUnderLocks is set by the build tag fault_unlink_under_locks.
const UnlinkUnderLocks = false
