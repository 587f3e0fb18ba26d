#include "go_asm.h"
#include "textflag.h"

// func thread() (word uint64, cpu int32)
//
// Go preempts no goroutine inside assembly, so the area stays the calling
// thread's until it has been read.
TEXT ·thread(SB), NOSPLIT, $0-12
	MOVL  $-1, AX
	MOVQ  0(FS), SI
	MOVQ  SI, word+0(FP)
	TESTQ SI, SI
	JEQ   none
	ADDQ  ·Offset(SB), SI
	MOVL  Area_cpuID(SI), AX
none:
	MOVL AX, cpu+8(FP)
	RET

// func fsWord() uint64
TEXT ·fsWord(SB), NOSPLIT, $0-8
	MOVQ 0(FS), AX
	MOVQ AX, ret+0(FP)
	RET

// func setFSWord(word uint64)
TEXT ·setFSWord(SB), NOSPLIT, $0-8
	MOVQ word+0(FP), AX
	MOVQ AX, 0(FS)
	RET

DATA spinDesc<>+0(SB)/8, $0
DATA spinDesc<>+8(SB)/8, $·spin(SB)
DATA spinDesc<>+16(SB)/8, $const_spinLen
DATA spinDesc<>+24(SB)/8, $spinAbort<>+7(SB)
GLOBL spinDesc<>(SB), NOPTR|RODATA, $32

// func spin(area *Area, n uint32, begun, fenced *uint32) (seen bool)
//
// One restartable section from its entry to the end of the loop.
// internal/percpu says why sections start at the entry.
//
//	area.rseqCS = spinDesc // arm
//	*begun = n
//	for many times { if *fenced == n { return true } }
//	return false           // also if it is started over
TEXT ·spin(SB), NOSPLIT|NOFRAME, $0-33
	MOVQ area+0(FP), SI
	MOVL n+8(FP), BX
	MOVQ begun+16(FP), DI
	MOVQ fenced+24(FP), DX
	LEAQ spinDesc<>(SB), AX
	MOVQ AX, Area_rseqCS(SI)
	MOVL $(1<<13), CX
	MOVL BX, (DI)
loop:
	PAUSE
	CMPL BX, (DX)
	JEQ  seen
	DECL CX
	JNE  loop
	MOVB $0, seen+32(FP)
	RET
seen:
	MOVB $1, seen+32(FP)
	RET

// The four bytes before the abort address are the signature. They are the
// operand of a UD1, which traps if it is executed and keeps disassemblers in
// step.
TEXT spinAbort<>(SB), NOSPLIT|NOFRAME, $0-33
	BYTE $0x0f; BYTE $0xb9; BYTE $0x3d; LONG $const_Sig
	MOVB $0, seen+32(FP)
	RET

// func spinDescriptor() *[4]uint64
TEXT ·spinDescriptor(SB), NOSPLIT, $0-8
	LEAQ spinDesc<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
