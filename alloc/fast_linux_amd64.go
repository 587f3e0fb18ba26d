//go:build !race && !slabfs_invariants

package alloc

import (
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// The lengths of the sequences in bytes, from entry to the end of the commit
// store, and constants of internal/percpu and internal/rseq that the sequences
// use.
const (
	allocLen     = 83
	freeLen      = 121
	bytesLen     = 121
	freeBytesLen = 169

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
	aloneAt    = percpu.AloneAt
)

// The sequences read words of other packages at these offsets.
var (
	_ [0]struct{} = [unsafe.Offsetof(percpu.CPULimit.N) - aloneAt]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(pages.Table.Last) - aloneAt]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(pages.Table.End) - aloneAt - 8]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(cpu.CanRead.Int32) - aloneAt]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(lockdep.Special.Bool) - aloneAt]struct{}{}
)

// allocFast pops from the sheaf of the current CPU. If it cannot, it jumps to
// allocLocked, which does the same under a lock or calls allocSlow.
//
// //go:noescape is true as long as no slow path keeps the handle.
//
//go:noescape
func allocFast(c *Cache) unsafe.Pointer

// freeFast checks the owner of obj and pushes it on the sheaf of the current
// CPU. If it cannot, it jumps to freeLocked, which does the same under a lock
// or calls freeSlow.
//
// //go:noescape is true as long as no slow path keeps the handle. An object is
// never Go memory in this build.
//
//go:noescape
func freeFast(c *Cache, obj unsafe.Pointer)

// bytesFast is allocFast for the class of n bytes. If it cannot serve the call,
// it jumps to bytesSlow.
//
// //go:noescape is true as long as no slow path keeps the allocator.
//
//go:noescape
func bytesFast(a *Allocator, n int) []byte

// freeBytesFast is freeFast for the class of size bytes, if size is a power of
// two and obj is aligned to it. If it cannot serve the call, it jumps to
// freeBytesSlow.
//
// //go:noescape is true as for freeFast.
//
//go:noescape
func freeBytesFast(a *Allocator, obj unsafe.Pointer, size int)

// fastCode returns the offset of the sequences in this file, and their
// descriptors.
func fastCode() (offset *uint64, alloc, free, bytes, freeBytes *percpu.Descriptor)

// startSequences lets the fast paths run if this machine can run sequences.
func startSequences() error {
	offset, alloc, free, bytes, freeBytes := fastCode()
	if err := percpu.StartSequences(offset, alloc, free, bytes, freeBytes); err != nil {
		return err
	}
	return percpu.StartSequences(bulkCode())
}
