#include "go_asm.h"
#include "textflag.h"

// func current(limit int) int
TEXT ·current(SB), NOSPLIT|NOFRAME, $0-16
	CMPL ·CanRead+const_aloneAt(SB), $const_yes
	JNE  slow
	BYTE $0xf3; BYTE $0x0f; BYTE $0xc7; BYTE $0xf8 // as in readCPU
	ANDL $0xfff, AX
	CMPQ AX, limit+0(FP)
	JGE  slow
	MOVQ AX, ret+8(FP)
	RET
slow:
	JMP ·currentSlow(SB)

// func readCPU() uint32
//
// Linux keeps node<<12 | cpu in TSC_AUX of each CPU.
TEXT ·readCPU(SB), NOSPLIT, $0-4
	BYTE $0xf3; BYTE $0x0f; BYTE $0xc7; BYTE $0xf8 // RDPID AX; the assembler lacks it
	ANDL $0xfff, AX
	MOVL AX, ret+0(FP)
	RET

// func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET
