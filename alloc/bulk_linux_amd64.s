//go:build !race && !slabfs_invariants

#include "go_asm.h"
#include "textflag.h"
#include "sequence_amd64.h"

// The fast paths of AllocBulk and FreeBulk. Each is one sequence for all
// objects of a call or for none. fast_linux_amd64.s explains sequences. If the
// kernel starts a sequence over, the copies are written again. Nobody looks at
// them before the commit.

#define EARLY_COMMIT
#define COMMIT MOVQ BX, (CX)

#ifdef const_faultEarlyCommit // a mistake for tests: others may write to the slots before they are copied
#undef EARLY_COMMIT
#undef COMMIT
#define EARLY_COMMIT \
	MOVQ BX, (CX); \
	MOVL $500, AX; \
	PAUSE; \
	DECL AX; \
	JNE  -2(PC)
#define COMMIT
#endif

DESC(allocBulkDesc, ·allocBulkFast, const_allocBulkLen, NOPTR|RODATA, allocBulkAbort)

// func allocBulkFast(c *Cache, dst []unsafe.Pointer) bool
//
// If the sheaf has fewer than len(dst) objects, the call takes the slow path.
// Each object counts as a pop.
TEXT ·allocBulkFast(SB), NOSPLIT|NOFRAME, $0-33
	MOVQ    c+0(FP), DI
	MOVQ    dst_base+8(FP), R10
	MOVQ    dst_len+16(FP), R9
	ENTER(allocBulkDesc)
	MOVQ    const_offFloor(CX), DX // the limit before the header
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	MOVQ    R8, AX
	SUBQ    DX, AX                 // objects above the floor
	JLS     slow
	CMPQ    AX, R9
	JCS     slow
	SUBQ    R9, R8                 // the new level
	LEAQ    const_offSlots(CX)(R8*8), R11
	IMUL3Q  $const_onePop, R9, AX
	ADDQ    AX, BX
	EARLY_COMMIT
	SUBQ    $4, R9
	JCS     rest
four:
	MOVOU   (R11), X0
	MOVOU   16(R11), X1
	MOVOU   X0, (R10)
	MOVOU   X1, 16(R10)
	ADDQ    $32, R11
	ADDQ    $32, R10
	SUBQ    $4, R9
	JCC     four
rest:
	ADDQ    $4, R9
	JEQ     copied
one:
	MOVQ    (R11), AX
	MOVQ    AX, (R10)
	ADDQ    $8, R11
	ADDQ    $8, R10
	DECQ    R9
	JNE     one
copied:
	COMMIT
	MOVB    $1, ret+32(FP)
	RET
slow:
	JMP ·allocBulkSlow(SB)

TEXT allocBulkAbort<>(SB), NOSPLIT|NOFRAME, $0-33
	ABORT
	JMP ·allocBulkSlow(SB)

DESC(freeBulkDesc, ·freeBulkFast, const_freeBulkLen, NOPTR|RODATA, freeBulkAbort)

// OWNED goes to the slow path unless the cache owns the page of the object at
// src. SI is the number of the cache. R12 and R13 are pages.Table. OWNER
// explains the lookup.
#define OWNED(src) \
	MOVQ R12, DX; \
	SUBQ src, DX; \
	SARQ $12, DX; \
	CMPQ DX, R13; \
	JCS  slow; \
	CMPL SI, 1(R12)(DX*4); \
	JNE  slow

// func freeBulkFast(c *Cache, src []unsafe.Pointer)
//
// If the cache does not own all the objects, or the sheaf has no room for them,
// the call takes the slow path.
TEXT ·freeBulkFast(SB), NOSPLIT|NOFRAME, $0-32
	MOVQ    c+0(FP), DI
	MOVQ    src_base+8(FP), R10
	MOVQ    src_len+16(FP), R9
	MOVQ    slabfs∕internal∕pages·Table+const_aloneAt(SB), R12
	MOVQ    slabfs∕internal∕pages·Table+(const_aloneAt+8)(SB), R13
	ENTER(freeBulkDesc)
	MOVQ    const_offCap(CX), DX   // the limit before the header
	MOVQ    (CX), BX
	MOVWLZX BX, R8
	SUBQ    R8, DX                 // room
	JLS     slow
	CMPQ    DX, R9
	JCS     slow
	LEAQ    const_offSlots(CX)(R8*8), R11
	ADDQ    R9, BX
	MOVL    Cache_number(DI), SI
	SUBQ    $2, R9
	JCS     rest
two:
	OWNED(0(R10))
	OWNED(8(R10))
	MOVOU   (R10), X0
	MOVOU   X0, (R11)
	ADDQ    $16, R10
	ADDQ    $16, R11
	SUBQ    $2, R9
	JCC     two
rest:
	ADDQ    $2, R9
	JEQ     copied
	OWNED((R10))
	MOVQ    (R10), AX
	MOVQ    AX, (R11)
copied:
	MOVQ    BX, (CX)               // commit
	RET
slow:
	JMP ·freeBulkSlow(SB)

TEXT freeBulkAbort<>(SB), NOSPLIT|NOFRAME, $0-32
	ABORT
	JMP ·freeBulkSlow(SB)

// func bulkCode() (offset *uint64, alloc, free *percpu.Descriptor)
TEXT ·bulkCode(SB), NOSPLIT, $0-24
	LEAQ offset<>+const_aloneAt(SB), AX
	MOVQ AX, offset+0(FP)
	LEAQ allocBulkDesc<>(SB), AX
	MOVQ AX, alloc+8(FP)
	LEAQ freeBulkDesc<>(SB), AX
	MOVQ AX, free+16(FP)
	RET
