//go:build !fault_sequence

package rcu

func stall() {}
