//go:build !race && !slabfs_invariants && fault_sequence

package alloc

import (
	"bytes"
	"unsafe"

	"slabfs/internal/percpu"
)

// The tag fault_sequence builds sequences that stall, which is no mistake. Each
// of these tags beside it breaks them in one way, by a constant that the
// assembler reads:
//
//	fault_header_first    they load the header before the limit
//	fault_late_arming     they arm after they have loaded the CPU
//	fault_no_cpu_bound    they do not compare the CPU with the limit
//	fault_long_section    their sections end an instruction after commit
//	fault_trusting_abort  an abort goes on with the old CPU number
//	fault_area_first      they load the area's address before they arm
//	fault_slow            20 dependent multiplications and no stalls
//
// The tag fault_early_commit needs no stalls: AllocBulk commits before it
// copies the objects. The tags fault_no_fence and fault_no_second_fence are in
// internal/fault.

// init measures the sections: from the entry to the end of the commit store.
func init() {
	_, alloc, free, bytesDesc, freeBytes := fastCode()
	for _, d := range []*percpu.Descriptor{alloc, free, bytesDesc, freeBytes} {
		words := (*[4]uint64)(unsafe.Pointer(d)) // version and flags, start, length, abort
		code := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), uintptr(words[1]))), 400)
		commit := []byte{0x48, 0x89, 0x19} // movq %rbx,(%rcx)
		words[2] = uint64(bytes.Index(code, commit)+len(commit)) + faultExtra
		if trustingAbort {
			sig := []byte{0x0f, 0xb9, 0x3d, 0x53, 0x30, 0x05, 0x53}
			words[3] = words[1] + uint64(bytes.Index(code, sig)+len(sig))
		}
	}
}
