//go:build !fault_notify_under_locks

package fault

// NotifyUnderLocks is set by the build tag fault_notify_under_locks.
const NotifyUnderLocks = false
