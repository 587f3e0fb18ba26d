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

// What the sequences are written with: their lengths in bytes from entry to the
// end of the commit store, and constants of internal/percpu and internal/rseq.
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

// The words that they read in other packages lie where they look for them.
var (
	_ [0]struct{} = [unsafe.Offsetof(percpu.CPULimit.N) - aloneAt]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(pages.Table.Last) - aloneAt]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(pages.Table.End) - aloneAt - 8]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(cpu.CanRead.Int32) - aloneAt]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(lockdep.Special.Bool) - aloneAt]struct{}{}
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

// bytesFast is allocFast on the class for n bytes, or jumps to bytesSlow.
//
// //go:noescape is true as long as no slow path keeps the allocator.
//
//go:noescape
func bytesFast(a *Allocator, n int) []byte

// freeBytesFast is freeFast on the class of size bytes, if they are a power of two and obj
// is aligned to it, or jumps to freeBytesSlow.
//
// //go:noescape is true as for freeFast.
//
//go:noescape
func freeBytesFast(a *Allocator, obj unsafe.Pointer, size int)

// fastCode returns the offset of all and their descriptors.
func fastCode() (offset *uint64, alloc, free, bytes, freeBytes *percpu.Descriptor)

// startSequences lets the fast paths run where sequences can be used.
func startSequences() error {
	offset, alloc, free, bytes, freeBytes := fastCode()
	if err := percpu.StartSequences(offset, alloc, free, bytes, freeBytes); err != nil {
		return err
	}
	return percpu.StartSequences(bulkCode())
}
