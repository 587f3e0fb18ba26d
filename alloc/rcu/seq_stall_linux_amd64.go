//go:build !race && fault_sequence && !fault_rcu_phase_first

package rcu

// The tag fault_sequence has readLock stall, which is no fault. The tag
// fault_rcu_phase_first beside it is one: readLock loads the phase before it arms.
const (
	lockLen   = 94
	unlockLen = 76

	stallLoops = 3000 // some 50 microseconds
)
