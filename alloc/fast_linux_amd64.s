//go:build !race && !slabfs_invariants && !fault_sequence

#include "go_asm.h"
#include "textflag.h"
#include "sequence_amd64.h"

// The fast paths. Each is one sequence, from the exported call to the commit.
// If it cannot serve the call, it jumps with the same arguments to code that
// takes locks. internal/percpu has the same sequences with pseudo-code,
// registers and reasons. Here is one difference: the area's address is loaded
// from the handle after arming. So if a destroy stores the closed area in the
// handle and then fences, no sequence holds the old address any more.
//
// A NOFRAME function may jump to a Go function of the same signature: the stack
// looks as if its caller had called that function.

// POP moves the object on top of the sheaf at CX to AX. It loads the limit
// before the header. The last store commits.
#define POP \
	MOVQ    const_offFloor(CX), DX; \
	MOVQ    (CX), BX; \
	MOVWLZX BX, R8; \
	CMPQ    R8, DX; \
	JLS     slow; \
	MOVQ    (const_offSlots-8)(CX)(R8*8), AX; \
	ADDQ    $const_onePop, BX; \
	MOVQ    BX, (CX)

// PUSH moves the object in R9 to the sheaf at CX, in the same order.
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
// Each power of two from 8 to maxKmalloc is a class, and its slabs begin with
// an object. So if obj lies in such a slab, which OWNER checks, an object
// begins at obj exactly if the bits of obj below the size are 0.
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

// On the lock engine, most calls need only the code below. It is the common
// path through allocSlow and freeSlow without their six calls, which take a
// third of the time.

// LOCK_CPU takes the lock of the current CPU, as core.lockCPU does, and leaves
// the CPU's state in SI and its area in CX. DI is the handle.
//
// It jumps to other if the handle is dead or the core has sequences. It also
// does so if the CPU's number cannot be read, the CPU has no state, its lock is
// not free, or the order of locks is checked. It jumps to slow, with the lock
// held, if the core is dying.
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

// UNLOCK_CPU is lockdep.Spin.Unlock.
#define UNLOCK_CPU MOVL $0, cpuState_mu(SI)

// func allocLocked(c *Cache) unsafe.Pointer
TEXT ·allocLocked(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	LOCK_CPU // reads the CPU's number by RDPID, as internal/cpu does
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
