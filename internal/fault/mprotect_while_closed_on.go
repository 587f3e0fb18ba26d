//go:build fault_mprotect_while_closed

package fault

// MprotectWhileClosed is no fault: it interrupts all CPUs while sheaves are
// closed, by mprotect(2). The build tag fault_mprotect_while_closed sets it.
const MprotectWhileClosed = true
