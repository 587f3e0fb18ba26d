//go:build !race && !slabfs_invariants && fault_sequence

#include "go_asm.h"
#include "textflag.h"
#include "sequence_amd64.h"

// A copy of fast_linux_amd64.s, which explains it, with stalls where a delay
// would show a mistake, and with one mistake for each build tag that
// fast_fault_linux_amd64.go lists. The lengths are measured when the program
// starts.

#undef ENTER

// STALL(every, loops) waits about loops times 20 ns, in one call out of every,
// a power of two. It does nothing that would start the sequence over. It uses
// AX, R11 and R12.
#define STALL(every, loops) \
	MOVQ  DX, R12; \
	RDTSC; \
	MOVQ  R12, DX; \
	SHRL  $3, AX; \
	TESTL $(every-1), AX; \
	JNE   5(PC); \
	MOVL  $loops, R11; \
	PAUSE; \
	DECL  R11; \
	JNE   -2(PC)

#ifdef const_faultSlow
#define MULTIPLY4 \
	IMULQ R11, R11; \
	IMULQ R11, R11; \
	IMULQ R11, R11; \
	IMULQ R11, R11
// The header waits for the multiplications, and the next sequence waits for the
// header. The CPU does not know that R11 will be 0.
#define STALL_COMMIT \
	MOVQ BX, R11; \
	MULTIPLY4; \
	MULTIPLY4; \
	MULTIPLY4; \
	MULTIPLY4; \
	MULTIPLY4; \
	ANDQ $0, R11; \
	ADDQ R11, BX
#define STALL_AREA
#define STALL_LIMIT
#else
#define STALL_AREA STALL(32, 10000)
#define STALL_LIMIT STALL(4, 500)
#define STALL_COMMIT STALL(4, 500)
#endif

#ifdef const_faultAreaFirst
#define ENTER(desc) \
	MOVQ Cache_area(DI), R13; \
	STALL_AREA; \
	AREA; \
	ARM(desc); \
	MOVL const_rsCPU(SI), CX; \
	BOUND; \
	SHLQ $const_shift, CX; \
	ADDQ R13, CX
#define ENTER_DONE
#endif

#ifdef const_faultLateArming
#define ENTER(desc) \
	AREA; \
	MOVL const_rsCPU(SI), CX; \
	STALL_AREA; \
	BOUND; \
	ARM(desc); \
	SHLQ $const_shift, CX; \
	ADDQ Cache_area(DI), CX
#define ENTER_DONE
#endif

#ifdef const_faultNoCPUBound
#define ENTER(desc) \
	AREA; \
	ARM(desc); \
	MOVL const_rsCPU(SI), CX; \
	SHLQ $const_shift, CX; \
	ADDQ Cache_area(DI), CX; \
	STALL_AREA
#define ENTER_DONE
#endif

#ifdef const_faultTrustingAbort
#define ENTER(desc) \
	AREA; \
	ARM(desc); \
	MOVL const_rsCPU(SI), R13; \
again: \
	MOVL R13, CX; \
	BOUND; \
	SHLQ $const_shift, CX; \
	ADDQ Cache_area(DI), CX; \
	STALL_AREA
#define ENTER_DONE
// RESUME is where the kernel resumes. It arms again, and goes on with the CPU
// number that was loaded before.
#define RESUME(desc) \
	BYTE $0x0f; BYTE $0xb9; BYTE $0x3d; LONG $const_rsSig; \
	AREA; \
	ARM(desc)
#endif

#ifndef ENTER_DONE
#define ENTER(desc) \
	AREA; \
	ARM(desc); \
	MOVL const_rsCPU(SI), CX; \
	BOUND; \
	SHLQ $const_shift, CX; \
	ADDQ Cache_area(DI), CX; \
	STALL_AREA
#endif

#ifdef const_faultHeaderFirst
#define LIMIT_AND_HEADER(limit) \
	MOVQ (CX), BX; \
	STALL_LIMIT; \
	MOVQ limit(CX), DX
#else
#define LIMIT_AND_HEADER(limit) \
	MOVQ limit(CX), DX; \
	STALL_LIMIT; \
	MOVQ (CX), BX
#endif

// POP moves the object on top of the sheaf at CX to AX.
#define POP \
	LIMIT_AND_HEADER(const_offFloor); \
	STALL_COMMIT; \
	MOVWLZX BX, R8; \
	CMPQ    R8, DX; \
	JLS     slow; \
	MOVQ    (const_offSlots-8)(CX)(R8*8), AX; \
	ADDQ    $const_onePop, BX; \
	MOVQ    BX, (CX)

// PUSH moves the object in R9 to the sheaf at CX.
#define PUSH \
	LIMIT_AND_HEADER(const_offCap); \
	STALL_COMMIT; \
	MOVWLZX BX, R8; \
	CMPQ    R8, DX; \
	JCC     slow; \
	MOVQ    R9, const_offSlots(CX)(R8*8); \
	INCQ    BX; \
	MOVQ    BX, (CX)

DESC(allocDesc, ·allocFast, 0, NOPTR, allocAbort)

// func allocFast(c *Cache) unsafe.Pointer
TEXT ·allocFast(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	ENTER(allocDesc)
	POP
	MOVQ AX, ret+8(FP)
	RET
slow:
	JMP ·allocSlow(SB)
#ifdef const_faultTrustingAbort
	RESUME(allocDesc)
	MOVQ c+0(FP), DI
	JMP  again
#endif

TEXT allocAbort<>(SB), NOSPLIT|NOFRAME, $0-16
	ABORT
	JMP ·allocSlow(SB)

DESC(freeDesc, ·freeFast, 0, NOPTR, freeAbort)

// func freeFast(c *Cache, obj unsafe.Pointer)
TEXT ·freeFast(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	MOVQ obj+8(FP), R9
	OWNER(slow)
	ENTER(freeDesc)
	PUSH
	RET
slow:
	JMP ·freeSlow(SB)
#ifdef const_faultTrustingAbort
	RESUME(freeDesc)
	MOVQ c+0(FP), DI
	MOVQ obj+8(FP), R9
	JMP  again
#endif

TEXT freeAbort<>(SB), NOSPLIT|NOFRAME, $0-16
	ABORT
	JMP ·freeSlow(SB)

DESC(bytesDesc, ·bytesFast, 0, NOPTR, bytesAbort)

// func bytesFast(a *Allocator, n int) []byte
//
// The class is bySize[(n+7)/8].
TEXT ·bytesFast(SB), NOSPLIT|NOFRAME, $0-40
	MOVQ a+0(FP), DI
	MOVQ n+8(FP), R9
	CMPQ R9, Allocator_maxBytes(DI)
	JHI  slow
	LEAQ 7(R9), DX
	ANDQ $-8, DX
	MOVQ (Allocator_bySize+sizeClass_bytes)(DI)(DX*2), R10
	MOVQ (Allocator_bySize+sizeClass_cache)(DI)(DX*2), DI
	ENTER(bytesDesc)
	POP
	MOVQ AX, ret_base+16(FP)
	MOVQ R9, ret_len+24(FP)
	MOVQ R10, ret_cap+32(FP)
	RET
slow:
	JMP ·bytesSlow(SB)
#ifdef const_faultTrustingAbort
	RESUME(bytesDesc)
	MOVQ a+0(FP), DI
	MOVQ n+8(FP), R9
	CMPQ R9, Allocator_maxBytes(DI)
	JHI  slow
	LEAQ 7(R9), DX
	ANDQ $-8, DX
	MOVQ (Allocator_bySize+sizeClass_bytes)(DI)(DX*2), R10
	MOVQ (Allocator_bySize+sizeClass_cache)(DI)(DX*2), DI
	JMP  again
#endif

TEXT bytesAbort<>(SB), NOSPLIT|NOFRAME, $0-40
	ABORT
	JMP ·bytesSlow(SB)

DESC(freeBytesDesc, ·freeBytesFast, 0, NOPTR, freeBytesAbort)

// func freeBytesFast(a *Allocator, obj unsafe.Pointer, size int)
//
// See fast_linux_amd64.s for the check of obj.
TEXT ·freeBytesFast(SB), NOSPLIT|NOFRAME, $0-24
	MOVQ  a+0(FP), DI
	MOVQ  obj+8(FP), R9
	MOVQ  size+16(FP), R8
	LEAQ  -1(R8), DX
	TESTQ R8, DX
	JNE   slow
	TESTQ R9, DX
	JNE   slow
	LEAQ  -8(R8), R10
	CMPQ  R10, Allocator_maxFree(DI)
	JHI   slow
	MOVQ  (Allocator_bySize+sizeClass_cache)(DI)(R8*2), DI
	OWNER(slow)
	ENTER(freeBytesDesc)
	PUSH
	RET
slow:
	JMP ·freeBytesSlow(SB)
#ifdef const_faultTrustingAbort
	RESUME(freeBytesDesc)
	MOVQ a+0(FP), DI
	MOVQ size+16(FP), R8
	MOVQ (Allocator_bySize+sizeClass_cache)(DI)(R8*2), DI
	MOVQ obj+8(FP), R9
	JMP  again
#endif

TEXT freeBytesAbort<>(SB), NOSPLIT|NOFRAME, $0-24
	ABORT
	JMP ·freeBytesSlow(SB)

// func fastCode() (offset *uint64, alloc, free, bytes, freeBytes *percpu.Descriptor)
TEXT ·fastCode(SB), NOSPLIT, $0-40
	LEAQ offset<>+const_aloneAt(SB), AX
	MOVQ AX, offset+0(FP)
	LEAQ allocDesc<>(SB), AX
	MOVQ AX, alloc+8(FP)
	LEAQ freeDesc<>(SB), AX
	MOVQ AX, free+16(FP)
	LEAQ bytesDesc<>(SB), AX
	MOVQ AX, bytes+24(FP)
	LEAQ freeBytesDesc<>(SB), AX
	MOVQ AX, freeBytes+32(FP)
	RET
