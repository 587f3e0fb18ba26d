//go:build !race && !fault_sequence

package rcu

const (
	lockLen   = 68
	unlockLen = 76
)
