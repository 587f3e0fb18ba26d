package seqtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"testing"
	"unsafe"

	"golang.org/x/arch/x86/x86asm"

	"slabfs/internal/rseq"
)

// A Sequence is what a test knows about one of them.
type Sequence struct {
	Name    string
	Desc    unsafe.Pointer            // its struct rseq_cs
	Symbols map[string]unsafe.Pointer // variables and functions that its code names
	Area    string                    // the operand that leads to the area: memory of the handle, or an argument
	Limit   uintptr                   // offset of the word of the area that ends it: cap or floor
	Body    []Step                    // of a sequence on something else than a sheaf: all from the area's address on
	Jumps   string                    // the symbol that it jumps to if it fails; empty: it returns
	Insts   int                       // from the entry to the commit: what a call costs
}

// A Step is something that a section does: one instruction, as a regular
// expression for what Intel writes.
type Step struct{ What, Text string }

// An inst is one instruction, with the symbols of its operands.
type inst struct {
	x86asm.Inst
	pc   uintptr
	text string
}

// steps are what a section does, in this order and each once. Registers are
// those of internal/percpu: RSI the thread's area, RCX the sheaf, RBX its header.
//
// The limit comes before the header: an old limit then means that the section
// began before a close, whose fence starts it over. The handle's pointer comes
// after arming: an old pointer then means the same.
func (s *Sequence) steps() []Step {
	enter := []Step{
		{"load of the word that leads to the thread's area", `mov rsi, qword ptr fs:\[(0x0)?\]`},
		{"offset", `add rsi, qword ptr \[Offset\]`},
		{"jump to the slow path where the offset leaves nothing above 0", `jle out`},
		{"address of its own descriptor", `lea rax, ptr \[Desc\]`},
		{"arming store", fmt.Sprintf(`mov qword ptr \[rsi\+%#x\], rax`, 8)},
		{"load of the CPU", fmt.Sprintf(`mov ecx, dword ptr \[rsi\+%#x\]`, 4)},
		{"comparison of the CPU with the bound", `cmp ecx, dword ptr \[CPULimit\]`},
		{"unsigned jump to the slow path", `jnb out`},
	}
	if s.Body != nil {
		return append(enter, s.Body...)
	}
	return append(enter, []Step{
		{"load of the sheaf's address", `add rcx, qword ptr ` + regexp.QuoteMeta(s.Area)},
		{"load of the limit", fmt.Sprintf(`mov rdx, qword ptr \[rcx\+%#x\]`, s.Limit)},
		{"load of the header", `mov rbx, qword ptr \[rcx\]`},
		{"commit", `mov qword ptr \[rcx\], rbx`},
	}...)
}

// Check fails unless the machine code of the running program is what the
// sequence must be.
func (s *Sequence) Check(t *testing.T) {
	t.Helper()
	for _, err := range s.Errors() {
		t.Errorf("%s: %v", s.Name, err)
	}
}

// Errors returns what is wrong with the sequence.
func (s *Sequence) Errors() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	d := *(*[4]uint64)(s.Desc)
	start, length, abort := uintptr(d[1]), uintptr(d[2]), uintptr(d[3])
	if uintptr(s.Desc)%32 != 0 || d[0] != 0 {
		bad("the descriptor at %p, with version and flags %#x, is not aligned to 32 or not plain", s.Desc, d[0])
	}
	if abort-start < length {
		bad("the abort address %#x lies inside [%#x, %#x)", abort, start, start+length)
		return errs
	}
	if sig := binary.LittleEndian.Uint32(bytesAt(abort-4, 4)); sig != rseq.Sig {
		bad("%#x before the abort address; want the signature %#x", sig, uint32(rseq.Sig))
	}

	section, err := s.decode(start, start+length, start, start+length)
	if err != nil {
		bad("%w", err)
		return errs
	}
	next, steps := 0, s.steps()
	for i, in := range section {
		if forbidden(in.Inst) {
			bad("%#x: %s in the section", in.pc, in.text)
		}
		if writes(in.Inst, x86asm.RCX, 0) && i != len(section)-1 {
			bad("%#x: %s: a store to the header before the last instruction", in.pc, in.text)
		}
		known := false
		for j, step := range steps {
			if known = matches(step.Text, in.text); !known {
				continue
			}
			switch isJump := matches("j.*", in.text); {
			case j > next && !isJump:
				bad("%#x: %s: before it there is no %s", in.pc, in.text, steps[next].What)
				next = j + 1
			case j == next:
				next++
			case !isJump: // for other reasons it may jump out again
				bad("%#x: %s: too late, or a second time", in.pc, in.text)
			}
			break
		}
		if !known && shared(in.Inst) {
			bad("%#x: %s: what others write is loaded or stored beside the steps", in.pc, in.text)
		}
	}
	if last := section[len(section)-1]; next < len(steps) || !matches(steps[next-1].Text, last.text) {
		bad("%#x: the section ends with %s; want the commit", last.pc, last.text)
	}
	if len(section) != s.Insts {
		bad("%d instructions from the entry to the commit; want %d", len(section), s.Insts)
	}
	return append(errs, s.abortErrors(start, length, abort)...)
}

func matches(pattern, text string) bool {
	return regexp.MustCompile("^(" + pattern + ")$").MatchString(text)
}

// abortErrors returns what is wrong with the abort path: it must trust no register, and
// must neither return into the section nor jump there.
func (s *Sequence) abortErrors(start, length, abort uintptr) (errs []error) {
	code, err := s.decode(abort, abort+200, start, start+length)
	if err != nil && len(code) == 0 {
		return []error{fmt.Errorf("abort path: %w", err)}
	}
	known := map[x86asm.Reg]bool{x86asm.RSP: true, x86asm.RIP: true}
	for _, in := range code {
		for _, r := range reads(in.Inst) {
			if !known[full(r)] {
				errs = append(errs, fmt.Errorf("abort path, %#x: %s trusts a register", in.pc, in.text))
			}
		}
		if r, ok := in.Args[0].(x86asm.Reg); ok && (in.Op == x86asm.MOV || in.Op == x86asm.LEA) {
			known[full(r)] = true
		}
		if to, ok := target(in); ok && to-start < length {
			errs = append(errs, fmt.Errorf("abort path, %#x: %s jumps into the section", in.pc, in.text))
		}
		switch {
		case in.Op == x86asm.RET && s.Jumps == "":
			return errs
		case in.Op == x86asm.JMP && s.Jumps != "" && in.text == "jmp "+s.Jumps:
			return errs
		case in.Op == x86asm.RET || in.Op == x86asm.JMP || in.Op == x86asm.CALL:
			return append(errs, fmt.Errorf("abort path, %#x: ends with %s; want the slow path %q", in.pc, in.text, s.Jumps))
		}
	}
	return append(errs, fmt.Errorf("abort path at %#x has no end", abort))
}

// decode reads the instructions of [pc, end), of which the last must end there.
// Jumps out of [from, to) are written as "out".
func (s *Sequence) decode(pc, end, from, to uintptr) (all []inst, err error) {
	for pc < end {
		x, err := x86asm.Decode(bytesAt(pc, 15), 64)
		if err != nil {
			return all, fmt.Errorf("%#x: %w", pc, err)
		}
		in := inst{Inst: x, pc: pc}
		in.text = s.textOf(in, from, to)
		all = append(all, in)
		pc += uintptr(x.Len)
	}
	if pc != end {
		return all, fmt.Errorf("the section ends at %#x, inside of an instruction that ends at %#x", end, pc)
	}
	return all, nil
}

// textOf is Intel's way to write an instruction, with names for addresses.
func (s *Sequence) textOf(in inst, from, to uintptr) string {
	text := x86asm.IntelSyntax(in.Inst, uint64(in.pc), nil)
	for _, arg := range in.Args {
		if m, ok := arg.(x86asm.Mem); ok && m.Base == x86asm.RIP {
			at := in.pc + uintptr(in.Len) + uintptr(m.Disp)
			text = regexp.MustCompile(`\[rip[^]]*\]`).ReplaceAllLiteralString(text, "["+s.symbol(at)+"]")
		}
	}
	if dest, ok := target(in); ok {
		name := s.symbol(dest)
		if in.Op != x86asm.JMP && in.Op != x86asm.CALL && dest-from >= to-from {
			name = "out"
		}
		text = fmt.Sprintf("%s %s", regexp.MustCompile(`^\w+`).FindString(text), name)
	}
	return text
}

func (s *Sequence) symbol(at uintptr) string {
	if at == uintptr(s.Desc) {
		return "Desc"
	}
	for name, p := range s.Symbols {
		if uintptr(p) == at {
			return name
		}
	}
	return fmt.Sprintf("%#x", at)
}

// target returns where a jump or a call goes.
func target(in inst) (uintptr, bool) {
	rel, ok := in.Args[0].(x86asm.Rel)
	return in.pc + uintptr(in.Len) + uintptr(rel), ok
}

// forbidden reports whether an instruction must not be on the way to the commit:
// calls, system calls and the stack, since a signal would find another stack at
// the abort address; and what locks the bus, since that is what a sequence is for.
func forbidden(in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.CALL, x86asm.RET, x86asm.PUSH, x86asm.POP, x86asm.SYSCALL, x86asm.INT, x86asm.JMP:
		_, rel := in.Args[0].(x86asm.Rel)
		return in.Op != x86asm.JMP || !rel
	case x86asm.XCHG, x86asm.CMPXCHG, x86asm.XADD:
		return Locks(in) || writesMemory(in)
	}
	return Locks(in)
}

// Locks reports whether an instruction has a LOCK prefix, or acts as if it had.
func Locks(in x86asm.Inst) bool {
	for _, p := range in.Prefix {
		if p&0xff == x86asm.PrefixLOCK&0xff && p != 0 {
			return true
		}
	}
	return in.Op == x86asm.XCHG && writesMemory(in)
}

func writesMemory(in x86asm.Inst) bool {
	_, mem := in.Args[0].(x86asm.Mem)
	_, mem1 := in.Args[1].(x86asm.Mem)
	return mem || mem1 && in.Op == x86asm.XCHG
}

// writes reports whether an instruction stores to [base+disp].
func writes(in x86asm.Inst, base x86asm.Reg, disp int64) bool {
	m, ok := in.Args[0].(x86asm.Mem)
	return ok && in.Op != x86asm.CMP && in.Op != x86asm.TEST && m.Base == base && m.Index == 0 && m.Disp == disp
}

// shared reports whether an instruction looks at what others write: the word that leads to
// the thread's area, that area, or the header and the limits of the sheaf. A level that is loaded
// a second time, before the limit, would be as wrong as a header.
func shared(in x86asm.Inst) bool {
	for _, arg := range in.Args {
		m, ok := arg.(x86asm.Mem)
		if ok && in.Op != x86asm.LEA && (m.Segment == x86asm.FS || (m.Base == x86asm.RSI || m.Base == x86asm.RCX) && m.Index == 0) {
			return true
		}
	}
	return false
}

// reads returns the registers that an instruction uses.
func reads(in x86asm.Inst) (regs []x86asm.Reg) {
	for i, arg := range in.Args {
		switch a := arg.(type) {
		case x86asm.Reg:
			if i > 0 || in.Op != x86asm.MOV && in.Op != x86asm.LEA {
				regs = append(regs, a)
			}
		case x86asm.Mem:
			for _, r := range []x86asm.Reg{a.Base, a.Index} {
				if r != 0 {
					regs = append(regs, r)
				}
			}
		}
	}
	return regs
}

// full returns the 64-bit register of which r is a part.
func full(r x86asm.Reg) x86asm.Reg {
	switch {
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return r - x86asm.EAX + x86asm.RAX
	case r >= x86asm.AX && r <= x86asm.R15W:
		return r - x86asm.AX + x86asm.RAX
	}
	return r
}

// rdpid is RDPID AX, which the decoder does not know.
var rdpid = []byte{0xf3, 0x0f, 0xc7, 0xf8}

// Function decodes from pc on until an instruction for which stop is true.
func Function(pc uintptr, stop func(pc uintptr, in x86asm.Inst) bool) ([]x86asm.Inst, error) {
	var all []x86asm.Inst
	for range 1000 {
		in, err := x86asm.Decode(bytesAt(pc, 15), 64)
		if bytes.Equal(bytesAt(pc, len(rdpid)), rdpid) {
			in, err = x86asm.Inst{Len: len(rdpid)}, nil
		}
		if err != nil {
			return all, fmt.Errorf("%#x: %w", pc, err)
		}
		all = append(all, in)
		if stop(pc, in) {
			return all, nil
		}
		pc += uintptr(in.Len)
	}
	return all, fmt.Errorf("no end up to %#x", pc)
}

// bytesAt returns machine code.
func bytesAt(pc uintptr, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), pc)), n)
}
