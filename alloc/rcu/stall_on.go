//go:build fault_sequence

package rcu

import "sync/atomic"

var stalls atomic.Uint32

// stall waits now and then where a delay would show a mistake. The delay itself
// is not a mistake.
func stall() {
	if stalls.Add(1)%32 == 0 {
		for range 10000 {
			stalls.Load()
		}
	}
}
