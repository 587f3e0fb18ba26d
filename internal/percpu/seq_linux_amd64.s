//go:build !race

#include "go_asm.h"
#include "textflag.h"

// The sequences. Each function is one restartable section from its entry to the
// end of its commit. The section starts at the entry so that it includes the
// arming store. If a thread were interrupted after that store and before the
// section, the kernel would disarm it, and it would continue unprotected. In
// pseudo-code:
//
//	start: rs = 0(FS) + offset
//	       if rs <= 0 { fail }               // not registered, or no engine
//	       rs.rseqCS = descriptor            // arm
//	       n = rs.cpuID                      // this CPU until the commit
//	       if unsigned(n) >= limit { fail }
//	       area = base + n << shift
//	       bound = area.floor or area.cap    // the limit, then the header: with an old
//	       h = area.header                   // limit, the closer's fence starts this over
//	       ... copy objects ...
//	       area.header = h'                  // commit: the only store that others see
//
// Registers: SI rs, CX area, BX header, R8 level, DX bound, AX objects. The
// abort handler trusts none of them: it counts the abort and fails, and the
// caller tries again.
//
// TestSequenceLayout reads the machine code: the lengths, the arming store
// inside the section, the commit at its end, the order of the loads, the
// signatures.

// offset is private to this file instead of a Go variable. A plugin has its own
// copy of the code, assembled differently, but shares Go variables with its
// host. Each copy must be checked before it runs. Until then its offset is the
// lowest number, so no sum is above 0.
DATA offset<>+const_AloneAt(SB)/8, $const_NotStarted
GLOBL offset<>(SB), NOPTR, $(const_AloneAt+64)

#define DESC(name, body, len, abort) \
	DATA name<>+0(SB)/8, $0; \
	DATA name<>+8(SB)/8, $body(SB); \
	DATA name<>+16(SB)/8, $len; \
	DATA name<>+24(SB)/8, $abort<>+7(SB); \
	GLOBL name<>(SB), NOPTR|RODATA, $32

// ENTER arms and leaves the area in CX, or jumps to fail.
#define ENTER(desc) \
	MOVQ 0(FS), SI; \
	ADDQ offset<>+const_AloneAt(SB), SI; \
	JLE  fail; \
	LEAQ desc<>(SB), AX; \
	MOVQ AX, const_rsCS(SI); \
	MOVL const_rsCPU(SI), CX; \
	CMPL CX, ·CPULimit+const_AloneAt(SB); \
	JCC  fail; \
	SHLQ $const_Shift, CX; \
	ADDQ base+0(FP), CX

// ABORT is where the kernel resumes. The four bytes before it must be the
// signature that was registered. They are the operand of a UD1, which traps if
// it is executed.
#define ABORT \
	BYTE $0x0f; BYTE $0xb9; BYTE $0x3d; LONG $const_rsSig; \
	MOVQ 0(FS), SI; \
	ADDQ offset<>+const_AloneAt(SB), SI; \
	MOVL const_rsCPU(SI), CX; \
	CMPL CX, ·CPULimit+const_AloneAt(SB); \
	JCC  out; \
	SHLQ $const_AbortShift, CX; \
	ADDQ ·Aborts(SB), CX; \
	LOCK; \
	INCQ (CX); \
out:

DESC(popDesc, ·seqPop, const_popLen, popAbort)

// func seqPop(base unsafe.Pointer) (obj uintptr)
TEXT ·seqPop(SB), NOSPLIT|NOFRAME, $0-16
	ENTER(popDesc)
	MOVQ    const_OffFloor(CX), DX
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	CMPQ    R8, DX
	JLS     fail
	MOVQ    (const_OffSlots-8)(CX)(R8*8), AX
	ADDQ    $const_OnePop, BX
	MOVQ    BX, (CX)      // commit
	MOVQ    AX, obj+8(FP)
	RET
fail:
	MOVQ $0, obj+8(FP)
	RET

TEXT popAbort<>(SB), NOSPLIT|NOFRAME, $0-16
	ABORT
	MOVQ $0, obj+8(FP)
	RET

DESC(pushDesc, ·seqPush, const_pushLen, pushAbort)

// func seqPush(base unsafe.Pointer, obj uintptr) (ok bool)
TEXT ·seqPush(SB), NOSPLIT|NOFRAME, $0-17
	ENTER(pushDesc)
	MOVQ    obj+8(FP), AX
	MOVQ    const_OffCap(CX), DX
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	CMPQ    R8, DX
	JCC     fail
	MOVQ    AX, const_OffSlots(CX)(R8*8)
	INCQ    BX
	MOVQ    BX, (CX)      // commit
	MOVB    $1, ok+16(FP)
	RET
fail:
	MOVB $0, ok+16(FP)
	RET

TEXT pushAbort<>(SB), NOSPLIT|NOFRAME, $0-17
	ABORT
	MOVB $0, ok+16(FP)
	RET

// COPY copies R9 words from R10 to DI, two at a time.
#define COPY \
	SUBQ  $2, R9; \
	JCS   last; \
two: \
	MOVOU (R10), X0; \
	MOVOU X0, (DI); \
	ADDQ  $16, R10; \
	ADDQ  $16, DI; \
	SUBQ  $2, R9; \
	JCC   two; \
last: \
	ADDQ  $2, R9; \
	JEQ   copied; \
	MOVQ  (R10), AX; \
	MOVQ  AX, (DI); \
copied:

DESC(popBulkDesc, ·seqPopBulk, const_popBulkLen, popBulkAbort)

// func seqPopBulk(base unsafe.Pointer, dst *uintptr, n uint64) (got uint64, area uintptr)
//
// Copies the objects pushed last, in their order in the area. If a run is
// aborted, what it wrote to dst is overwritten or ignored.
TEXT ·seqPopBulk(SB), NOSPLIT|NOFRAME, $0-40
	ENTER(popBulkDesc)
	MOVQ    dst+8(FP), DI
	MOVQ    n+16(FP), R9
	MOVQ    const_OffFloor(CX), DX
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	SUBQ    DX, R8        // objects above the floor
	JLS     fail
	CMPQ    R9, R8
	CMOVQHI R8, R9        // n = min(n, objects above the floor)
	ADDQ    DX, R8        // level
	SUBQ    R9, R8        // the new level
	LEAQ    const_OffSlots(CX)(R8*8), R10
	SUBQ    R9, BX
	MOVQ    R9, DX
	COPY
	MOVQ    BX, (CX)      // commit
	MOVQ    DX, got+24(FP)
	MOVQ    CX, area+32(FP)
	RET
fail:
	MOVQ $0, got+24(FP)
	MOVQ $0, area+32(FP)
	RET

TEXT popBulkAbort<>(SB), NOSPLIT|NOFRAME, $0-40
	ABORT
	MOVQ $0, got+24(FP)
	MOVQ $0, area+32(FP)
	RET

DESC(pushBulkDesc, ·seqPushBulk, const_pushBulkLen, pushBulkAbort)

// func seqPushBulk(base unsafe.Pointer, src *uintptr, n uint64) (kept uint64, area uintptr)
TEXT ·seqPushBulk(SB), NOSPLIT|NOFRAME, $0-40
	ENTER(pushBulkDesc)
	MOVQ    src+8(FP), R10
	MOVQ    n+16(FP), R9
	MOVQ    const_OffCap(CX), DX
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	SUBQ    R8, DX        // room
	JLS     fail
	CMPQ    R9, DX
	CMOVQHI DX, R9        // n = min(n, room)
	LEAQ    const_OffSlots(CX)(R8*8), DI
	ADDQ    R9, BX
	MOVQ    R9, DX
	COPY
	MOVQ    BX, (CX)      // commit
	MOVQ    DX, kept+24(FP)
	MOVQ    CX, area+32(FP)
	RET
fail:
	MOVQ $0, kept+24(FP)
	MOVQ $0, area+32(FP)
	RET

TEXT pushBulkAbort<>(SB), NOSPLIT|NOFRAME, $0-40
	ABORT
	MOVQ $0, kept+24(FP)
	MOVQ $0, area+32(FP)
	RET

// func seqCode() (offset *uint64, pop, push, popBulk, pushBulk *Descriptor)
TEXT ·seqCode(SB), NOSPLIT, $0-40
	LEAQ offset<>+const_AloneAt(SB), AX
	MOVQ AX, offset+0(FP)
	LEAQ popDesc<>(SB), AX
	MOVQ AX, pop+8(FP)
	LEAQ pushDesc<>(SB), AX
	MOVQ AX, push+16(FP)
	LEAQ popBulkDesc<>(SB), AX
	MOVQ AX, popBulk+24(FP)
	LEAQ pushBulkDesc<>(SB), AX
	MOVQ AX, pushBulk+32(FP)
	RET
