//go:build !race

#include "go_asm.h"
#include "textflag.h"

// The read side: one sequence each for begin and end of a section, as those of
// internal/percpu (see there for why things are as they are), and with an
// increment for a commit. In pseudo-code, with | where the kernel may start over:
//
//	start: rs = 0(FS) + offset
//	       if rs <= 0 { slow path }           // not registered, or no engine
//	       rs.rseqCS = descriptor             // arm
//	       n = rs.cpuID                       // ours from here to the commit
//	       if unsigned(n) >= limit { slow path }
//	     | token = d.phase                    // readLock only. After arming: an old phase means that this
//	     |                                    // began before it ended, and the fence starts it over
//	     | c = d.area + n << shift            // after the phase: if that is 0, the area is the closed one
//	     | if c.open == 0 { slow path }
//	     | c.locks[token]++ or c.unlocks[token]++  // commit
//
// The commit is one instruction that reads and writes memory. Only threads on
// this CPU write the word, and none of them comes between, so it has no LOCK.
//
// Registers: DI domain, SI rs, CX counters, DX token, AX scratch. An abort trusts
// none of them: it counts itself and takes the slow path.

// offset is this file's own; internal/percpu tells why.
DATA offset<>+const_aloneAt(SB)/8, $const_notStarted
GLOBL offset<>(SB), NOPTR, $(const_aloneAt+64)

#define DESC(name, body, len, abort) \
	DATA name<>+0(SB)/8, $0; \
	DATA name<>+8(SB)/8, $body(SB); \
	DATA name<>+16(SB)/8, $len; \
	DATA name<>+24(SB)/8, $abort<>+7(SB); \
	GLOBL name<>(SB), NOPTR|RODATA, $32

// ENTER arms, and leaves the CPU's number in CX.
#define ENTER(desc) \
	MOVQ 0(FS), SI; \
	ADDQ offset<>+const_aloneAt(SB), SI; \
	JLE  slow; \
	LEAQ desc<>(SB), AX; \
	MOVQ AX, const_rsCS(SI); \
	MOVL const_rsCPU(SI), CX; \
	CMPL CX, slabfs∕internal∕percpu·CPULimit+const_aloneAt(SB); \
	JCC  slow

// COUNTERS leaves the address of the CPU's counters in CX.
#define COUNTERS \
	SHLQ $const_shift, CX; \
	ADDQ Domain_area(DI), CX; \
	CMPQ (CX), $0; \
	JEQ  slow

#define ABORT \
	BYTE $0x0f; BYTE $0xb9; BYTE $0x3d; LONG $const_rsSig; \
	MOVQ 0(FS), SI; \
	ADDQ offset<>+const_aloneAt(SB), SI; \
	MOVL const_rsCPU(SI), CX; \
	CMPL CX, slabfs∕internal∕percpu·CPULimit+const_aloneAt(SB); \
	JCC  out; \
	SHLQ $const_abortShift, CX; \
	ADDQ slabfs∕internal∕percpu·Aborts(SB), CX; \
	LOCK; \
	INCQ (CX); \
out:

// The tag fault_sequence has readLock wait, once in a while and for some ten
// microseconds, where a delay would show a mistake, without doing what would
// start it over.
#ifdef const_stallLoops
#define STALL \
	RDTSC; \
	SHRL  $3, AX; \
	TESTL $31, AX; \
	JNE   5(PC); \
	MOVL  $const_stallLoops, AX; \
	PAUSE; \
	DECL  AX; \
	JNE   -2(PC)
#else
#define STALL
#endif

DESC(lockDesc, ·readLock, const_lockLen, lockAbort)

// func readLock(d *Domain) (token uint64)
TEXT ·readLock(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ d+0(FP), DI
#ifdef const_phaseFirst
	MOVQ Domain_phase(DI), R8
	STALL
	ENTER(lockDesc)
	COUNTERS
	MOVQ R8, DX
#else
	ENTER(lockDesc)
#ifdef const_stallLoops
	MOVQ Domain_phase(DI), R8
	STALL
	MOVQ R8, DX
#else
	MOVQ Domain_phase(DI), DX
#endif
	COUNTERS
#endif
	ADDQ DX, CX
	INCQ (CX)       // commit
	MOVQ DX, token+8(FP)
	RET
slow:
	JMP ·readLockSlow(SB)

TEXT lockAbort<>(SB), NOSPLIT|NOFRAME, $0-16
	ABORT
	JMP ·readLockSlow(SB)

DESC(unlockDesc, ·readUnlock, const_unlockLen, unlockAbort)

// func readUnlock(d *Domain, token uint64)
//
// What follows the commit needs no protection: a grace period that did not see
// the increment had set draining before its fence, and so this sees that.
TEXT ·readUnlock(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ  d+0(FP), DI
	MOVQ  token+8(FP), DX
	TESTQ DX, DX
	JEQ   slow
	ENTER(unlockDesc)
	COUNTERS
	LEAQ const_toUnlocks(CX)(DX*1), CX
	INCQ (CX)       // commit
	CMPQ DX, Domain_draining(DI)
	JEQ  wake
	RET
wake:
	JMP ·readUnlockWake(SB)
slow:
	JMP ·readUnlockSlow(SB)

TEXT unlockAbort<>(SB), NOSPLIT|NOFRAME, $0-16
	ABORT
	JMP ·readUnlockSlow(SB)

// func sequences() (offset *uint64, lock, unlock *percpu.Descriptor)
TEXT ·sequences(SB), NOSPLIT, $0-24
	LEAQ offset<>+const_aloneAt(SB), AX
	MOVQ AX, offset+0(FP)
	LEAQ lockDesc<>(SB), AX
	MOVQ AX, lock+8(FP)
	LEAQ unlockDesc<>(SB), AX
	MOVQ AX, unlock+16(FP)
	RET
