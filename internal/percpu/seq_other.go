//go:build !linux || !amd64 || race

package percpu

import (
	"fmt"
	"unsafe"

	"slabfs/internal/rseq"
)

// A Descriptor describes a sequence; there are none here.
type Descriptor struct{}

// StartSequences reports that sequences cannot be used on areas here.
func StartSequences(*uint64, ...*Descriptor) error {
	return fmt.Errorf("%w: this build has none (they need Linux on amd64, and no race detector)", rseq.ErrUnsupported)
}

// AbortCount returns how many sequences the kernel started over on a CPU.
func AbortCount(int) uint64 { return 0 }

const never = "percpu: sequences without an engine"

// PopSeq is not called where StartSequences fails.
func PopSeq(unsafe.Pointer) unsafe.Pointer { panic(never) }

// PushSeq is not called where StartSequences fails.
func PushSeq(_, _ unsafe.Pointer) bool { panic(never) }

// PopBulkSeq is not called where StartSequences fails.
func PopBulkSeq(unsafe.Pointer, []uintptr) (got, cpu int) { panic(never) }

// PushBulkSeq is not called where StartSequences fails.
func PushBulkSeq(unsafe.Pointer, []uintptr) (kept, cpu int) { panic(never) }
