//go:build !race

package rcu

import (
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// Constants of internal/percpu and internal/rseq for the sequences. Their
// lengths, from entry to the end of the commit, are in seq_len_linux_amd64.go.
const (
	shift      = percpu.Shift
	abortShift = percpu.AbortShift
	rsCPU      = rseq.OffCPU
	rsCS       = rseq.OffCS
	rsSig      = rseq.Sig
	notStarted = percpu.NotStarted
	aloneAt    = percpu.AloneAt
)

// readLock counts the start of a section on the current CPU, or jumps to
// readLockSlow.
//
// //go:noescape is correct as long as no slow path keeps the domain.
//
//go:noescape
func readLock(d *Domain) (token uint64)

// readUnlock counts the end of a section on the current CPU, or jumps to
// readUnlockSlow. If a grace period waits for the section, it continues in
// readUnlockWake.
//
// //go:noescape is correct as long as no slow path keeps the domain.
//
//go:noescape
func readUnlock(d *Domain, token uint64)

// sequences returns the offset that both sequences use, and their descriptors.
func sequences() (offset *uint64, lock, unlock *percpu.Descriptor)

func startSequences() error {
	offset, lock, unlock := sequences()
	return percpu.StartSequences(offset, lock, unlock)
}
