//go:build linux && amd64 && !race && !slabfs_invariants

package alloc

import (
	"maps"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/arch/x86/x86asm"

	"slabfs/internal/pages"
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
	"slabfs/internal/seqtest"
)

// An entry is a call of a user and the sequence behind it.
type entry struct {
	call  any // the exported method
	slow  any // the Go function for all that the sequence cannot do
	skip  int // calls before that of the sequence
	insts int // from the entry of the method to the commit, calls included; of Go 1.26
	seq   seqtest.Sequence
}

func entries() []entry {
	offset, alloc, free, bytes, freeBytes := fastCode()
	symbols := map[string]unsafe.Pointer{
		"Offset":   unsafe.Pointer(offset),
		"CPULimit": unsafe.Pointer(&percpu.CPULimit.N), "Aborts": unsafe.Pointer(&percpu.Aborts),
	}
	bulkOffset, allocBulk, freeBulk := bulkCode()
	bulkSymbols := maps.Clone(symbols)
	bulkSymbols["Offset"] = unsafe.Pointer(bulkOffset)
	return []entry{
		{(*Cache).Alloc, allocSlow, 0, 26 + stallInsts, seqtest.Sequence{
			Name: "alloc", Desc: unsafe.Pointer(alloc), Symbols: symbols, Area: "[rdi]", Limit: offFloor, Insts: 19 + stallInsts,
		}},
		{(*Cache).Free, freeSlow, 0, 37 + stallInsts, seqtest.Sequence{
			Name: "free", Desc: unsafe.Pointer(free), Symbols: symbols, Area: "[rdi]", Limit: offCap, Insts: 29 + stallInsts,
		}},
		{(*Allocator).Bytes, bytesSlow, 0, 34 + stallInsts, seqtest.Sequence{
			Name: "bytes", Desc: unsafe.Pointer(bytes), Symbols: symbols, Area: "[rdi]", Limit: offFloor, Insts: 26 + stallInsts,
		}},
		{(*Allocator).FreeBytes, freeBytesSlow, 0, 49 + stallInsts, seqtest.Sequence{
			Name: "freeBytes", Desc: unsafe.Pointer(freeBytes), Symbols: symbols, Area: "[rdi]", Limit: offCap, Insts: 39 + stallInsts,
		}},
		{(*Cache).AllocBulk, allocBulkSlow, 1, 69, seqtest.Sequence{
			Name: "allocBulk", Desc: unsafe.Pointer(allocBulk), Symbols: bulkSymbols, Area: "[rdi]", Limit: offFloor, Insts: 44,
		}},
		{(*Cache).FreeBulk, freeBulkSlow, 0, 70, seqtest.Sequence{
			Name: "freeBulk", Desc: unsafe.Pointer(freeBulk), Symbols: bulkSymbols, Area: "[rdi]", Limit: offCap, Insts: 59,
		}},
	}
}

func TestFastLayout(t *testing.T) {
	if unsafe.Offsetof(Cache{}.area) != 0 {
		t.Fatal("the handle does not begin with the area")
	}
	for _, e := range entries() {
		start := *(*uintptr)(unsafe.Add(e.seq.Desc, 8))
		slow := jumpTarget(t, start)
		e.seq.Symbols["slow "+e.seq.Name], e.seq.Jumps = unsafe.Add(unsafe.Pointer(nil), slow), "slow "+e.seq.Name
		e.seq.Check(t)
		if strings.Contains(runtime.FuncForPC(slow).Name(), "Locked") {
			slow = jumpTarget(t, slow)
		}
		if to, _ := callTarget(t, slow); to != codeOf(e.slow) {
			t.Errorf("%s: the slow path at %#x calls %#x; want %#x", e.seq.Name, slow, to, codeOf(e.slow))
		}
	}
}

// A call is one call: of the assembly function, which commits or jumps to the
// slow path. Nothing on the way locks, not even by XCHG.
func TestWay(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("a coverage build counts on the way")
	}
	for _, e := range entries() {
		start := *(*uintptr)(unsafe.Add(e.seq.Desc, 8))
		to, insts := follow(t, codeOf(e.call), x86asm.CALL, e.skip)
		if to != start {
			t.Errorf("%s: call %d of the method is of %#x; want the sequence at %#x", e.seq.Name, e.skip, to, start)
		}
		for _, in := range insts {
			if seqtest.Locks(in) {
				t.Errorf("%s: %v on the way", e.seq.Name, in)
			}
		}
		if n := len(insts) + e.seq.Insts; n != e.insts && strings.HasPrefix(runtime.Version(), "go1.26") {
			t.Errorf("%s: %d instructions on the way to the commit; want %d", e.seq.Name, n, e.insts)
		}
	}
}

// On the lock engine a call is one call too, with one instruction that locks. What unlocks
// leaves the high half of the word alone, where others count themselves meanwhile.
func TestLockedWay(t *testing.T) {
	if stallInsts > 0 {
		t.Skip("the sequences of this build go to the slow path at once")
	}
	for _, e := range entries()[:2] {
		locks, unlocks := 0, 0
		insts, err := seqtest.Function(jumpTarget(t, *(*uintptr)(unsafe.Add(e.seq.Desc, 8))), func(_ uintptr, in x86asm.Inst) bool {
			return in.Op == x86asm.RET
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range insts {
			if seqtest.Locks(in) {
				locks++
			}
			if m, ok := in.Args[0].(x86asm.Mem); ok && in.Op == x86asm.MOV && m.Base == x86asm.RSI {
				unlocks++
				if in.MemBytes != 4 {
					t.Errorf("%s: %v stores %d bytes; want 4", e.seq.Name, in, in.MemBytes)
				}
			}
			if in.Op == x86asm.CALL || in.Op == x86asm.XCHG {
				t.Errorf("%s: %v on the way", e.seq.Name, in)
			}
		}
		if locks != 1 || unlocks != 1 {
			t.Errorf("%s: %d instructions lock, %d unlock; want 1 each", e.seq.Name, locks, unlocks)
		}
	}
}

func codeOf(f any) uintptr { return reflect.ValueOf(f).Pointer() }

// callTarget returns where the first call of a function goes, and what leads there.
func callTarget(t *testing.T, pc uintptr) (to uintptr, insts []x86asm.Inst) {
	t.Helper()
	return follow(t, pc, x86asm.CALL, 0)
}

// jumpTarget returns where the first unconditional jump of a function goes.
func jumpTarget(t *testing.T, pc uintptr) uintptr {
	t.Helper()
	to, _ := follow(t, pc, x86asm.JMP, 0)
	return to
}

// follow is that of an instruction which jumps, when skip of them were passed.
func follow(t *testing.T, pc uintptr, op x86asm.Op, skip int) (to uintptr, insts []x86asm.Inst) {
	t.Helper()
	insts, err := seqtest.Function(pc, func(pc uintptr, in x86asm.Inst) bool {
		if rel, ok := in.Args[0].(x86asm.Rel); ok && in.Op == op {
			if skip--; skip >= 0 {
				return false
			}
			to = pc + uintptr(in.Len) + uintptr(rel)
			return true
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	return to, insts
}

// Threads' rseq areas have their own page offsets; see internal/rseq.
func TestHeadersApart(t *testing.T) {
	a := newAllocator(t, Options{})
	for range 300 {
		k, err := a.newCore(&Cache{name: "apart"}, "", newLayout(64, 0, 0, 1), CacheOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer release([]*core{k})
		if o := uintptr(k.sequenceArea()) % pages.Size; k.seq && o >= rseq.PageBegin && o < rseq.PageEnd {
			t.Errorf("a header lies at page offset %d", o)
		}
	}
}
