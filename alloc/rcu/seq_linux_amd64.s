//go:build !race

#include "go_asm.h"
#include "textflag.h"

// The read side: one sequence for the start of a section and one for its end.
// They are like the sequences of internal/percpu, which says why things are as
// they are. Here the commit is an increment. In pseudo-code, with | where the
// kernel may start over:
//
//	start: rs = 0(FS) + offset
//	       if rs <= 0 { slow path }           // not registered, or no engine
//	       rs.rseqCS = descriptor             // arm
//	       n = rs.cpuID                       // this CPU until the commit
//	       if unsigned(n) >= limit { slow path }
//	     | token = d.phase                    // readLock only; after arming: if the phase
//	     |                                    // is old, the updater's fence starts this over
//	     | c = d.area + n << shift            // after the phase: if it is 0, the area is closed
//	     | if c.open == 0 { slow path }
//	     | c.locks[token]++ or c.unlocks[token]++  // commit
//
// The commit is one instruction that reads and writes memory. Only threads on
// this CPU write the word, and none of them runs in between, so the instruction
// needs no LOCK.
//
// Registers: DI domain, SI rs, CX counters, DX token, AX scratch. The abort
// handler trusts none of them: it counts the abort and takes the slow path.

// offset is private to this file; internal/percpu says why.
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

// The tag fault_sequence makes readLock wait now and then, for some ten
// microseconds, where a delay would show a mistake. The wait does nothing that
// would start the sequence over.
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
// After the commit nothing needs protection. If a grace period did not see the
// increment, it had stored draining before its fence, so the load below sees
// the new value.
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
