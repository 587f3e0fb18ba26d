//go:build slabfs_invariants && !race

package lockdep

import "testing"

func TestSpinUnlockOfUnlockedInvariants(t *testing.T) {
	var s Spin
	s.Init(Leaf)
	expectPanic(t, "lockdep: unlock of unlocked leaf", s.Unlock)
}
