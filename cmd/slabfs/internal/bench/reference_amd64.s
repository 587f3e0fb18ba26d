#include "go_asm.h"
#include "textflag.h"

// What stands in for words of the process.
DATA offset<>+0(SB)/8, $0
GLOBL offset<>(SB), NOPTR, $8
DATA cpuLimit<>+0(SB)/4, $1
GLOBL cpuLimit<>(SB), NOPTR, $8

// ENTER arms, and leaves the sheaf of the CPU at hand in CX. DI is the reference.
#define ENTER(desc) \
	MOVQ reference_thread(DI), SI; \
	ADDQ offset<>(SB), SI; \
	JLE  slow; \
	LEAQ desc(SB), AX; \
	MOVQ AX, 8(SI); \
	MOVL 16(SI), CX; \
	CMPL CX, cpuLimit<>(SB); \
	JCC  slow; \
	SHLQ $21, CX; \
	ADDQ reference_sheaf(DI), CX

// func referenceAlloc(r *reference) uintptr
TEXT ·referenceAlloc(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ    r+0(FP), DI
	ENTER(·referenceAlloc)
	MOVQ    16(CX), DX
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	CMPQ    R8, DX
	JLS     slow
	MOVQ    16(CX)(R8*8), AX
	ADDQ    $0xffff, BX // a pop more, an object less
	MOVQ    BX, (CX)
	MOVQ    AX, ret+8(FP)
	RET
slow:
	MOVQ $0, ret+8(FP)
	RET

// func referenceFree(r *reference, obj uintptr)
TEXT ·referenceFree(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ    r+0(FP), DI
	MOVQ    obj+8(FP), R9
	MOVQ    reference_owner(DI), R10
	MOVQ    R9, DX
	SUBQ    reference_arena(DI), DX
	SARQ    $12, DX
	CMPQ    DX, reference_pages(DI)
	JCC     slow
	MOVL    (R10)(DX*4), R10
	CMPL    R10, reference_number(DI)
	JNE     slow
	ENTER(·referenceFree)
	MOVQ    8(CX), DX
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	CMPQ    R8, DX
	JCC     slow
	MOVQ    R9, 24(CX)(R8*8)
	INCQ    BX
	MOVQ    BX, (CX)
	RET
slow:
	RET
