//go:build !race

package rcu

import (
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// What the sequences are written with: constants of internal/percpu and
// internal/rseq. Their lengths, from entry to the end of the commit, are beside.
const (
	shift      = percpu.Shift
	abortShift = percpu.AbortShift
	rsCPU      = rseq.OffCPU
	rsCS       = rseq.OffCS
	rsSig      = rseq.Sig
	notStarted = percpu.NotStarted
	aloneAt    = percpu.AloneAt
)

// readLock counts the begin of a section on the CPU at hand, or jumps to readLockSlow.
//
// //go:noescape is true as long as no slow path keeps the domain.
//
//go:noescape
func readLock(d *Domain) (token uint64)

// readUnlock counts its end on the CPU at hand, or jumps to readUnlockSlow; if a
// grace period waits for it, it goes on in readUnlockWake.
//
// //go:noescape is true as long as no slow path keeps the domain.
//
//go:noescape
func readUnlock(d *Domain, token uint64)

// sequences returns the offset of both and their descriptors.
func sequences() (offset *uint64, lock, unlock *percpu.Descriptor)

func startSequences() error {
	offset, lock, unlock := sequences()
	return percpu.StartSequences(offset, lock, unlock)
}
