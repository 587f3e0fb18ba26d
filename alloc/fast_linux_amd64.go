//go:build !race && !invariants

package alloc

import (
	"unsafe"

	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// What the sequences are written with: their lengths in bytes from entry to the
// end of the commit store, and constants of internal/percpu and internal/rseq.
const (
	allocLen = 83
	freeLen  = 121

	shift      = percpu.Shift
	onePop     = percpu.OnePop
	offCap     = percpu.OffCap
	offFloor   = percpu.OffFloor
	offSlots   = percpu.OffSlots
	abortShift = percpu.AbortShift
	rsCPU      = rseq.OffCPU
	rsCS       = rseq.OffCS
	rsSig      = rseq.Sig
	notStarted = percpu.NotStarted
)

// allocFast pops from the sheaf of the CPU at hand, or jumps to allocSlow.
//
// //go:noescape is true as long as no slow path keeps the handle.
//
//go:noescape
func allocFast(c *Cache) unsafe.Pointer

// freeFast checks the owner of obj and pushes it on the sheaf of the CPU at hand, or jumps
// to freeSlow.
//
// //go:noescape is true as long as no slow path keeps the handle; an object is
// never Go memory where this is used.
//
//go:noescape
func freeFast(c *Cache, obj unsafe.Pointer)

// fastCode returns the offset of both and their descriptors.
func fastCode() (offset *uint64, alloc, free *percpu.Descriptor)

// startSequences lets the fast paths run where sequences can be used.
func startSequences() error {
	offset, alloc, free := fastCode()
	return percpu.StartSequences(offset, alloc, free)
}
