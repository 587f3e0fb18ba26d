//go:build !race

package percpu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"slabfs/internal/rseq"
)

// Constants of the sequences: their lengths in bytes from entry to the end of
// the commit store, and constants of internal/rseq.
const (
	popLen      = 80
	pushLen     = 81
	popBulkLen  = 147
	pushBulkLen = 141

	rsCPU = rseq.OffCPU
	rsCS  = rseq.OffCS
	rsSig = rseq.Sig
)

// The sequences follow. Each returns 0 or false in three cases: the area is
// empty or full, the thread is not registered, or the kernel started the
// sequence over. The caller then tries again or takes the slow path.
//
// base is the area of CPU 0, outside Go memory. The returned area is the one
// that the objects went to or came from. The sequences use the memory at dst
// and src only until they return, which //go:noescape tells the compiler.

func seqPop(base unsafe.Pointer) (obj uintptr)

func seqPush(base unsafe.Pointer, obj uintptr) (ok bool)

// seqPopBulk keeps no pointer to dst.
//
//go:noescape
func seqPopBulk(base unsafe.Pointer, dst *uintptr, n uint64) (got uint64, area uintptr)

// seqPushBulk keeps no pointer to src.
//
//go:noescape
func seqPushBulk(base unsafe.Pointer, src *uintptr, n uint64) (kept uint64, area uintptr)

// seqCode returns the offset that the sequences above use, and their
// descriptors in the same order.
func seqCode() (offset *uint64, pop, push, popBulk, pushBulk *Descriptor)

// AloneAt is an offset into a variable whose word every call reads. With as
// much padding after the word, it has a cache line that no other variable
// shares. The linker puts small variables of all packages side by side, and the
// runtime writes some of its own all the time.
const AloneAt = 64

// Variables that sequences need, constant after StartSequences.
var (
	CPULimit struct {
		_ [AloneAt]byte
		N uint32 // CPU numbers are below it; 0: no sequence runs
		_ [60]byte
	}
	Aborts unsafe.Pointer // 1<<AbortShift bytes for each CPU; the first 8 are the counter
)

// NotStarted is the lowest signed number: its sum with any other number is not
// above 0.
const NotStarted uint64 = 1 << 63

// AbortShift is log2 of the distance between the abort counters of two CPUs.
const AbortShift = 6

// attempts is how often an operation is tried before it counts as failed. An
// abort looks like a failure, and a debugger may abort every attempt.
const attempts = 4

// StartSequences checks whether sequences can be used on areas and counters. It
// checks the sequences of this package and of the caller, whose offset and
// descriptors are the arguments. If it returns nil, sequences run from then on.
// Its errors say why they cannot. It may be called again.
//
// Sequences add their offset to 0(FS). While an offset is NotStarted, they take
// the slow path before they write there, for any value at 0(FS). Once
// StartSequences has set the offset to rseq.Offset, they take the slow path on
// threads that are not registered.
func StartSequences(offset *uint64, descriptors ...*Descriptor) error {
	if regions.shift != Shift {
		return fmt.Errorf("%w: the per-CPU regions are only 2^%d bytes (is there a limit, ulimit -v?)", rseq.ErrUnsupported, regions.shift)
	}
	own, pop, push, popBulk, pushBulk := seqCode()
	for _, d := range append(descriptors, pop, push, popBulk, pushBulk) {
		if err := d.check(); err != nil {
			return err
		}
	}
	if err := rseq.Start(); err != nil {
		return err
	}
	startOnce()
	atomic.StoreUint64(own, rseq.Offset)
	if offset != nil {
		atomic.StoreUint64(offset, rseq.Offset)
	}
	return nil
}

var startOnce = sync.OnceFunc(func() {
	Aborts = unsafe.Pointer(unsafe.SliceData(make([]byte, regions.limit<<AbortShift)))
	CPULimit.N = uint32(regions.limit)
})

// AbortCount returns how many sequences the kernel has started over on a CPU.
func AbortCount(cpu int) uint64 {
	if Aborts == nil || cpu >= regions.limit {
		return 0
	}
	return atomic.LoadUint64((*uint64)(unsafe.Add(Aborts, cpu<<AbortShift)))
}

// PopSeq is Pop on the current CPU, by a sequence. base is the area of CPU 0.
//
// Preconditions of PopSeq, PushSeq, PopBulkSeq and PushBulkSeq: the place of
// base does not become another cache's during the call. Holding the lock of any
// CPU is enough for that.
func PopSeq(base unsafe.Pointer) unsafe.Pointer {
	for range attempts {
		if obj := seqPop(base); obj != 0 {
			return Pointer(obj)
		}
	}
	return nil
}

// PushSeq is Push on the current CPU, by a sequence.
func PushSeq(base, obj unsafe.Pointer) bool {
	for range attempts {
		if seqPush(base, uintptr(obj)) {
			return true
		}
	}
	return false
}

// PopBulkSeq is PopBulk on the current CPU, by a sequence. It also returns the
// number of that CPU.
func PopBulkSeq(base unsafe.Pointer, dst []uintptr) (got, cpu int) {
	for range attempts {
		if got, area := seqPopBulk(base, unsafe.SliceData(dst), uint64(len(dst))); got != 0 {
			return int(got), int((area - uintptr(base)) >> Shift)
		}
	}
	return 0, 0
}

// PushBulkSeq is PushBulk on the current CPU, by a sequence. It also returns
// the number of that CPU.
func PushBulkSeq(base unsafe.Pointer, src []uintptr) (kept, cpu int) {
	for range attempts {
		if kept, area := seqPushBulk(base, unsafe.SliceData(src), uint64(len(src))); kept != 0 {
			return int(kept), int((area - uintptr(base)) >> Shift)
		}
	}
	return 0, 0
}

// A Descriptor is a struct rseq_cs, in the kernel's layout.
type Descriptor struct {
	version, flags uint32
	start, length  uint64
	abort          uint64
}

// check compares a descriptor with the machine code that it describes. A
// section that is too long, or that is armed from outside, loses an object
// about once in a thousand hours. check fails if the assembler or the linker
// made other code than the lengths are written for, as in a plugin.
// TestSequenceLayout checks more.
func (d *Descriptor) check() error {
	const near = 4096 // both ends are in one file, and neither is in a plugin's copy
	code := d.code()
	arm := []byte{0x48, 0x89, 0x46, 0x08} // movq %rax,8(%rsi)
	commits := 0
	// The commits are movq %rbx,(%rcx) and incq (%rcx).
	for _, commit := range [][]byte{{0x48, 0x89, 0x19}, {0x48, 0xff, 0x01}} {
		if bytes.HasSuffix(code, commit) {
			commits = bytes.Count(code, commit)
		}
	}
	sig := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), uintptr(d.abort-4))), 4)
	switch {
	case d.version != 0 || d.flags != 0 || uintptr(unsafe.Pointer(d))%32 != 0, d.abort-d.start+near > 2*near:
		return fmt.Errorf("%w: descriptor %+v at %p is not as it was written", rseq.ErrUnsupported, *d, d)
	case !bytes.Contains(code, arm), commits != 1:
		return fmt.Errorf("%w: a sequence was not assembled as it was written: % x", rseq.ErrUnsupported, code)
	case binary.LittleEndian.Uint32(sig) != rseq.Sig:
		return fmt.Errorf("%w: no signature before an abort address: % x", rseq.ErrUnsupported, sig)
	}
	return nil
}

// code returns the machine code of the section.
func (d *Descriptor) code() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), uintptr(d.start))), d.length)
}
