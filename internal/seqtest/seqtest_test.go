//go:build !race

package seqtest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"slabfs/internal/rseq"
)

// pop is the section of internal/percpu's seqPop, an instruction an element: its bytes, and
// the name of what its last four lead to.
var pop = []string{
	"64488b342500000000", // mov rsi, fs:[0]
	"480335 Offset",      // add rsi, [Offset]
	"0f8e out",           // jle out
	"488d05 Desc",        // lea rax, [Desc]
	"48894608",           // mov [rsi+8], rax
	"8b4e04",             // mov ecx, [rsi+4]
	"3b0d CPULimit",      // cmp ecx, [CPULimit]
	"0f83 out",           // jnb out
	"48c1e11a",           // shl rcx, 26
	"48030f",             // add rcx, [rdi]
	"488b5110",           // mov rdx, [rcx+16]
	"488b19",             // mov rbx, [rcx]
	"440fb7c3",           // movzx r8d, bx
	"4939d0",             // cmp r8, rdx
	"0f86 out",           // jbe out
	"4a8b44c110",         // mov rax, [rcx+r8*8+16]
	"4881c3ffff0000",     // add rbx, 0xffff
	"488919",             // mov [rcx], rbx
}

// assemble returns a sequence that does not run; as in a program, what it names lies
// behind it. In a race build checkptr would refuse to read machine code from Go memory.
func assemble(t *testing.T, section []string) *Sequence {
	t.Helper()
	buf := make([]byte, 512)
	buf = buf[-uintptr(unsafe.Pointer(&buf[0]))%32:]
	const start, abort, desc, offset, limit = 0, 256, 320, 384, 392
	places := map[string]int{"Desc": desc, "Offset": offset, "CPULimit": limit, "out": abort}
	at := start
	for _, inst := range section {
		code, name, refers := strings.Cut(inst, " ")
		n, err := hex.Decode(buf[at:], []byte(code))
		if err != nil {
			t.Fatal(err)
		}
		at += n
		if refers {
			binary.LittleEndian.PutUint32(buf[at:], uint32(places[name]-at-4))
			at += 4
		}
	}
	copy(buf[abort-7:], "\x0f\xb9\x3d")
	binary.LittleEndian.PutUint32(buf[abort-4:], rseq.Sig)
	buf[abort] = 0xc3 // ret
	base := uint64(uintptr(unsafe.Pointer(&buf[0])))
	for i, word := range []uint64{0, base + start, uint64(at - start), base + abort} {
		binary.LittleEndian.PutUint64(buf[desc+8*i:], word)
	}
	return &Sequence{
		Name: "pop", Desc: unsafe.Pointer(&buf[desc]), Area: "[rdi]", Limit: 16, Insts: len(pop),
		Symbols: map[string]unsafe.Pointer{"Offset": unsafe.Pointer(&buf[offset]), "CPULimit": unsafe.Pointer(&buf[limit])},
	}
}

// Each mistake is seen, and without one nothing is.
func TestErrors(t *testing.T) {
	swap := func(i, j int) func([]string) {
		return func(s []string) { s[i], s[j] = s[j], s[i] }
	}
	set := func(i int, inst string) func([]string) {
		return func(s []string) { s[i] = inst }
	}
	for what, tc := range map[string]struct {
		mistake func(section []string)
		want    string // empty: none
	}{
		"none":                          {func([]string) {}, ""},
		"header before limit":           {swap(10, 11), "before it there is no load of the limit"},
		"level before limit":            {func(s []string) { s[10], s[11], s[12] = "440fb701", s[10], s[11] }, "beside the steps"}, // movzx r8d, word ptr [rcx]
		"level from memory":             {set(12, "440fb701"), "beside the steps"},
		"limit a second time":           {set(13, "4c3b4110"), "beside the steps"}, // cmp r8, [rcx+16]
		"arming after the CPU":          {func(s []string) { s[3], s[4], s[5] = s[5], s[3], s[4] }, "before it there is no address of its own descriptor"},
		"arming after the area":         {func(s []string) { s[4], s[9] = s[9], s[4] }, "before it there is no arming store"},
		"jump where negative only":      {set(2, "0f8c out"), "before it there is no jump to the slow path where the offset leaves nothing above 0"}, // jl
		"signed bound":                  {set(7, "0f8d out"), "before it there is no unsigned jump"},                                                 // jnl
		"other descriptor":              {set(3, "488d05 Offset"), "before it there is no address of its own descriptor"},
		"locked commit":                 {set(17, "488719"), "ends with xchg"},  // xchg [rcx], rbx
		"store to a field":              {set(8, "894e04"), "beside the steps"}, // mov [rsi+4], ecx
		"instruction behind commit":     {swap(16, 17), "a store to the header before the last instruction"},
		"word of the thread a 2nd time": {set(8, "64488b3c2500000000"), "beside the steps"}, // mov rdi, fs:[0]
	} {
		section := slices.Clone(pop)
		tc.mistake(section)
		err := errors.Join(assemble(t, section).Errors()...)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", what, err, tc.want)
		}
	}
}
