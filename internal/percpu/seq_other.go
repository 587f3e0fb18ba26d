//go:build !linux || !amd64 || race

package percpu

import (
	"fmt"
	"unsafe"

	"slabfs/internal/rseq"
)

// A Descriptor describes a sequence. There are no sequences here.
type Descriptor struct{}

// StartSequences returns an error: this build has no sequences.
func StartSequences(*uint64, ...*Descriptor) error {
	return fmt.Errorf("%w: this build has none (they need Linux on amd64, and no race detector)", rseq.ErrUnsupported)
}

// AbortCount returns 0: no sequence runs here.
func AbortCount(int) uint64 { return 0 }

const never = "percpu: sequences without an engine"

// PopSeq must not be called: StartSequences fails here.
func PopSeq(unsafe.Pointer) unsafe.Pointer { panic(never) }

// PushSeq must not be called: StartSequences fails here.
func PushSeq(_, _ unsafe.Pointer) bool { panic(never) }

// PopBulkSeq must not be called: StartSequences fails here.
func PopBulkSeq(unsafe.Pointer, []uintptr) (got, cpu int) { panic(never) }

// PushBulkSeq must not be called: StartSequences fails here.
func PushBulkSeq(unsafe.Pointer, []uintptr) (kept, cpu int) { panic(never) }
