//go:build linux && amd64 && !race

package percpu

import (
	"testing"
	"unsafe"

	"slabfs/internal/seqtest"
)

// The machine code of this binary is what the sequences need; internal/seqtest
// says what that is.
func TestSequenceLayout(t *testing.T) {
	offset, pop, push, popBulk, pushBulk := seqCode()
	for _, s := range []seqtest.Sequence{
		{Name: "pop", Desc: unsafe.Pointer(pop), Limit: OffFloor, Insts: 18},
		{Name: "push", Desc: unsafe.Pointer(push), Limit: OffCap, Insts: 19},
		{Name: "popBulk", Desc: unsafe.Pointer(popBulk), Limit: OffFloor, Insts: 37},
		{Name: "pushBulk", Desc: unsafe.Pointer(pushBulk), Limit: OffCap, Insts: 35},
	} {
		s.Area = "[rsp+0x8]"
		s.Symbols = map[string]unsafe.Pointer{
			"Offset": unsafe.Pointer(offset), "CPULimit": unsafe.Pointer(&CPULimit.N), "Aborts": unsafe.Pointer(&Aborts),
		}
		s.Check(t)
	}
}
