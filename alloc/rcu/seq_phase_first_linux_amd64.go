//go:build !race && fault_sequence && fault_rcu_phase_first

package rcu

const (
	lockLen   = 94
	unlockLen = 76

	stallLoops = 3000
	phaseFirst = 1
)
