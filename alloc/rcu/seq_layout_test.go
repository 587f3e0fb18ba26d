//go:build linux && amd64 && !race && !fault_sequence

package rcu

import (
	"fmt"
	"reflect"
	"testing"
	"unsafe"

	"golang.org/x/arch/x86/x86asm"

	"slabfs/internal/percpu"
	"slabfs/internal/seqtest"
)

// The machine code of this binary is what the sequences need; internal/seqtest
// says what that is.
func TestSequenceLayout(t *testing.T) {
	offset, lock, unlock := sequences()
	if unsafe.Offsetof(Domain{}.area) != 0 {
		t.Fatal("the domain does not begin with the counters' address")
	}
	phase := seqtest.Step{
		What: "load of the phase",
		Text: fmt.Sprintf(`mov rdx, qword ptr \[rdi\+%#x\]`, unsafe.Offsetof(Domain{}.phase)),
	}
	counters := []seqtest.Step{
		{What: "load of the counters' address", Text: `add rcx, qword ptr \[rdi\]`},
		{What: "comparison that tells whether the CPU is open", Text: `cmp qword ptr \[rcx\], 0x0`},
	}
	commit := seqtest.Step{What: "commit", Text: `inc qword ptr \[rcx\]`}
	for _, s := range []struct {
		seqtest.Sequence
		slow any
	}{
		{seqtest.Sequence{
			Name: "lock", Desc: unsafe.Pointer(lock), Insts: 16,
			Body: append([]seqtest.Step{phase}, append(counters,
				seqtest.Step{What: "choice of the word", Text: `add rcx, rdx`}, commit)...),
		}, readLockSlow},
		{seqtest.Sequence{
			Name: "unlock", Desc: unsafe.Pointer(unlock), Insts: 18,
			Body: append(counters,
				seqtest.Step{What: "choice of the word", Text: fmt.Sprintf(`lea rcx, ptr \[rcx\+rdx\+%#x\]`, toUnlocks)}, commit),
		}, readUnlockSlow},
	} {
		start := *(*uintptr)(unsafe.Add(s.Desc, 8))
		slow := follow(t, start, x86asm.JMP, 2)
		if s.Name == "lock" {
			slow = follow(t, start, x86asm.JMP, 1)
		}
		s.Symbols = map[string]unsafe.Pointer{
			"Offset": unsafe.Pointer(offset), "CPULimit": unsafe.Pointer(&percpu.CPULimit.N),
			"Aborts":         unsafe.Pointer(&percpu.Aborts),
			"slow " + s.Name: unsafe.Add(unsafe.Pointer(nil), slow),
		}
		s.Jumps = "slow " + s.Name
		s.Check(t)
		if to := follow(t, slow, x86asm.CALL, 1); to != reflect.ValueOf(s.slow).Pointer() {
			t.Errorf("%s: the slow path at %#x calls %#x", s.Name, slow, to)
		}
	}
}

// follow returns where the n-th unconditional jump or call of a function goes.
func follow(t *testing.T, pc uintptr, op x86asm.Op, n int) (to uintptr) {
	t.Helper()
	_, err := seqtest.Function(pc, func(pc uintptr, in x86asm.Inst) bool {
		if rel, ok := in.Args[0].(x86asm.Rel); ok && in.Op == op {
			to = pc + uintptr(in.Len) + uintptr(rel)
			n--
		}
		return n == 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}
