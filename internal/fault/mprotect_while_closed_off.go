//go:build !fault_mprotect_while_closed

package fault

// MprotectWhileClosed is set by the build tag fault_mprotect_while_closed.
const MprotectWhileClosed = false
