//go:build linux && amd64 && !race

package percpu

import (
	"testing"
	"unsafe"

	"slabfs/internal/rseq"
	"slabfs/internal/seqtest"
)

// The machine code of this binary is what the sequences need; internal/seqtest
// says what that is.
func TestSequenceLayout(t *testing.T) {
	mask, pop, push, popBulk, pushBulk := seqCode()
	for _, s := range []seqtest.Sequence{
		{Name: "pop", Desc: unsafe.Pointer(pop), Limit: OffFloor, Insts: 19},
		{Name: "push", Desc: unsafe.Pointer(push), Limit: OffCap, Insts: 20},
		{Name: "popBulk", Desc: unsafe.Pointer(popBulk), Limit: OffFloor, Insts: 32},
		{Name: "pushBulk", Desc: unsafe.Pointer(pushBulk), Limit: OffCap, Insts: 30},
	} {
		s.Area = "[rsp+0x8]"
		s.Symbols = map[string]unsafe.Pointer{
			"Mask": unsafe.Pointer(mask), "Offset": unsafe.Pointer(&rseq.Offset), "CPULimit": unsafe.Pointer(&CPULimit), "Aborts": unsafe.Pointer(&Aborts),
		}
		s.Check(t)
	}
}
