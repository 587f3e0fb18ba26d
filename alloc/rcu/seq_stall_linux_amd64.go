//go:build !race && fault_sequence && !fault_rcu_phase_first

package rcu

// The tag fault_sequence makes readLock stall, which is not a fault. Together
// with the tag fault_rcu_phase_first there is a fault: readLock loads the phase
// before it arms.
const (
	lockLen   = 94
	unlockLen = 76

	stallLoops = 3000 // some 50 microseconds
)
