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

// What the sequences are written with: their lengths in bytes from entry to the
// end of the commit store, and constants of internal/rseq.
const (
	popLen      = 80
	pushLen     = 81
	popBulkLen  = 147
	pushBulkLen = 141

	rsCPU = rseq.OffCPU
	rsCS  = rseq.OffCS
	rsSig = rseq.Sig
)

// The sequences. Each returns 0 or false if the area has nothing to give or no
// room, if the thread is not registered, or if the kernel started it over: try
// again, or take the slow path. base is the area of CPU 0, in memory that is
// not Go's; area is where the objects went or came from. What lies at dst and src
// is used until they return and no longer, which //go:noescape says.

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

// seqCode returns the offset of the sequences above and their descriptors, in their order.
func seqCode() (offset *uint64, pop, push, popBulk, pushBulk *Descriptor)

// AloneAt is how far inside of a variable that each call reads its word lies, with as much
// behind it: in a cache line that nobody else's variable shares. The linker puts small
// variables of all packages side by side, and some of the runtime are written all the time.
const AloneAt = 64

// What sequences need, constant after StartSequences.
var (
	CPULimit struct {
		_ [AloneAt]byte
		N uint32 // numbers of CPUs are below it; 0: no sequence runs
		_ [60]byte
	}
	Aborts unsafe.Pointer // 1<<AbortShift bytes for each CPU, of which the first 8 count
)

// NotStarted is the lowest signed number: added to any it leaves none above 0.
const NotStarted uint64 = 1 << 63

// AbortShift is log2 of the distance of two CPUs' abort counters.
const AbortShift = 6

// attempts is how often an operation is tried before its failure is believed: an
// abort looks like one, and a debugger may abort each.
const attempts = 4

// StartSequences finds out whether sequences can be used on areas and counters: those
// here and those of the caller, whose offset and descriptors it gives. If so they run from
// then on. It may be called again.
//
// An offset is what sequences add to 0(FS), which is rseq.Offset from then on. While it is
// NotStarted they take the slow path before they write anything there, whatever
// the word is; afterwards where it is 0, on a thread that is not registered.
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

// AbortCount returns how many sequences the kernel started over on a CPU.
func AbortCount(cpu int) uint64 {
	if Aborts == nil || cpu >= regions.limit {
		return 0
	}
	return atomic.LoadUint64((*uint64)(unsafe.Add(Aborts, cpu<<AbortShift)))
}

// PopSeq is Pop on the CPU at hand, by a sequence. base is the area of CPU 0.
//
// Preconditions of it and of the next three: the place of base does not become
// another cache's meanwhile, of which the lock of any CPU assures.
func PopSeq(base unsafe.Pointer) unsafe.Pointer {
	for range attempts {
		if obj := seqPop(base); obj != 0 {
			return Pointer(obj)
		}
	}
	return nil
}

// PushSeq is Push on the CPU at hand, by a sequence.
func PushSeq(base, obj unsafe.Pointer) bool {
	for range attempts {
		if seqPush(base, uintptr(obj)) {
			return true
		}
	}
	return false
}

// PopBulkSeq is PopBulk on the CPU at hand, by a sequence. It returns which CPU that was.
func PopBulkSeq(base unsafe.Pointer, dst []uintptr) (got, cpu int) {
	for range attempts {
		if got, area := seqPopBulk(base, unsafe.SliceData(dst), uint64(len(dst))); got != 0 {
			return int(got), int((area - uintptr(base)) >> Shift)
		}
	}
	return 0, 0
}

// PushBulkSeq is PushBulk on the CPU at hand, by a sequence. It returns which CPU that was.
func PushBulkSeq(base unsafe.Pointer, src []uintptr) (kept, cpu int) {
	for range attempts {
		if kept, area := seqPushBulk(base, unsafe.SliceData(src), uint64(len(src))); kept != 0 {
			return int(kept), int((area - uintptr(base)) >> Shift)
		}
	}
	return 0, 0
}

// A Descriptor is a struct rseq_cs as the kernel reads it.
type Descriptor struct {
	version, flags uint32
	start, length  uint64
	abort          uint64
}

// check compares a descriptor with the machine code that it describes: a section
// that is too long, or armed outside of itself, loses objects about once in a
// thousand hours. It fails where the assembler or the linker made other code
// than the lengths are written for, as in a plugin. Tests read more closely.
func (d *Descriptor) check() error {
	const near = 4096 // both ends of a descriptor are of one file, and not one of them of a plugin's copy
	code := d.code()
	arm := []byte{0x48, 0x89, 0x46, 0x08} // movq %rax,8(%rsi)
	commits := 0
	for _, commit := range [][]byte{{0x48, 0x89, 0x19}, {0x48, 0xff, 0x01}} { // movq %rbx,(%rcx); incq (%rcx)
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
