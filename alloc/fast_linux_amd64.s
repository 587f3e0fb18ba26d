//go:build !race && !slabfs_invariants && !fault_sequence

#include "go_asm.h"
#include "textflag.h"
#include "sequence_amd64.h"

// The fast paths: one sequence each, from the exported call to the commit, and a
// jump to where locks are taken, with the same arguments, for everything else. They are
// those of internal/percpu (see there for pseudo-code, registers and why) with
// one difference: the area's address is loaded from the handle after arming. So
// a destroy that stores the closed area there and fences knows that no sequence
// still holds the old address.
//
// A NOFRAME function may jump to a Go function of the same signature: the stack
// looks as if its caller had called it.

// POP moves the object on top of the sheaf at CX to AX. The limit comes before the header;
// the last store commits.
#define POP \
	MOVQ    const_offFloor(CX), DX; \
	MOVQ    (CX), BX; \
	MOVWLZX BX, R8; \
	CMPQ    R8, DX; \
	JLS     slow; \
	MOVQ    (const_offSlots-8)(CX)(R8*8), AX; \
	ADDQ    $const_onePop, BX; \
	MOVQ    BX, (CX)

// PUSH moves the object in R9 to the sheaf at CX.
#define PUSH \
	MOVQ    const_offCap(CX), DX; \
	MOVQ    (CX), BX; \
	MOVWLZX BX, R8; \
	CMPQ    R8, DX; \
	JCC     slow; \
	MOVQ    R9, const_offSlots(CX)(R8*8); \
	INCQ    BX; \
	MOVQ    BX, (CX)

DESC(allocDesc, ·allocFast, const_allocLen, NOPTR|RODATA, allocAbort)

// func allocFast(c *Cache) unsafe.Pointer
TEXT ·allocFast(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	ENTER(allocDesc)
	POP
	MOVQ AX, ret+8(FP)
	RET
slow:
	JMP ·allocLocked(SB)

TEXT allocAbort<>(SB), NOSPLIT|NOFRAME, $0-16
	ABORT
	JMP ·allocLocked(SB)

DESC(freeDesc, ·freeFast, const_freeLen, NOPTR|RODATA, freeAbort)

// func freeFast(c *Cache, obj unsafe.Pointer)
TEXT ·freeFast(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	MOVQ obj+8(FP), R9
	OWNER(slow)
	ENTER(freeDesc)
	PUSH
	RET
slow:
	JMP ·freeLocked(SB)

TEXT freeAbort<>(SB), NOSPLIT|NOFRAME, $0-16
	ABORT
	JMP ·freeLocked(SB)

DESC(bytesDesc, ·bytesFast, const_bytesLen, NOPTR|RODATA, bytesAbort)

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

TEXT bytesAbort<>(SB), NOSPLIT|NOFRAME, $0-40
	ABORT
	JMP ·bytesSlow(SB)

DESC(freeBytesDesc, ·freeBytesFast, const_freeBytesLen, NOPTR|RODATA, freeBytesAbort)

// func freeBytesFast(a *Allocator, obj unsafe.Pointer, size int)
//
// Each power of two from 8 to maxKmalloc is a class, and its slabs begin with an object.
// So whether one begins at obj is what the bits of obj below the size tell, if obj lies in
// such a slab, which OWNER looks at.
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

TEXT freeBytesAbort<>(SB), NOSPLIT|NOFRAME, $0-24
	ABORT
	JMP ·freeBytesSlow(SB)

// What is left to do after a sequence is mostly all that the lock engine does: these are the
// common way through allocSlow and freeSlow without six calls, which take a third of its time.

// LOCK_CPU takes the lock of the CPU at hand, as core.lockCPU does, and leaves the CPU's state in SI
// and its area in CX. Where it is more than that it goes to other: the core has sequences,
// somebody holds the lock or waits for it, the order of locks is checked. DI is the handle.
#define LOCK_CPU \
	CMPL  Cache_dead(DI), $0; \
	JNE   other; \
	MOVQ  Cache_core(DI), R10; \
	CMPB  core_seq(R10), $0; \
	JNE   other; \
	CMPL  slabfs∕internal∕cpu·CanRead+const_aloneAt(SB), $1; \
	JNE   other; \
	BYTE  $0xf3; BYTE $0x0f; BYTE $0xc7; BYTE $0xf8; \
	ANDL  $0xfff, AX; \
	CMPQ  AX, (core_cpus+8)(R10); \
	JCC   other; \
	MOVQ  core_cpus(R10), SI; \
	MOVQ  (SI)(AX*8), SI; \
	TESTQ SI, SI; \
	JEQ   other; \
	CMPL  slabfs∕internal∕lockdep·Special+const_aloneAt(SB), $0; \
	JNE   other; \
	XORL  AX, AX; \
	MOVL  $1, CX; \
	LOCK; \
	CMPXCHGQ CX, cpuState_mu(SI); \
	JNE   other; \
	MOVQ  cpuState_area(SI), CX; \
	CMPB  core_dying(R10), $0; \
	JNE   slow

// UNLOCK_CPU is what lockdep.Spin.Unlock does.
#define UNLOCK_CPU MOVL $0, cpuState_mu(SI)

// func allocLocked(c *Cache) unsafe.Pointer
TEXT ·allocLocked(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	LOCK_CPU // reads the CPU's number by RDPID, as internal/cpu
	POP
	UNLOCK_CPU
	MOVQ AX, ret+8(FP)
	RET
slow:
	UNLOCK_CPU
other:
	JMP ·allocSlow(SB)

// func freeLocked(c *Cache, obj unsafe.Pointer)
TEXT ·freeLocked(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	MOVQ obj+8(FP), R9
	OWNER(other)
	LOCK_CPU
	PUSH
	UNLOCK_CPU
	RET
slow:
	UNLOCK_CPU
other:
	JMP ·freeSlow(SB)

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
