// The parts that the files of sequences share. Each file includes this one.

// offset belongs to the file that includes this one; internal/percpu says why.
DATA offset<>+const_aloneAt(SB)/8, $const_notStarted
GLOBL offset<>(SB), NOPTR, $(const_aloneAt+64)

// DESC is the descriptor of a sequence that begins at body and has len bytes.
// If the kernel interrupts the sequence, it resumes the thread at abort.
#define DESC(name, body, len, flags, abort) \
	DATA name<>+0(SB)/8, $0; \
	DATA name<>+8(SB)/8, $body(SB); \
	DATA name<>+16(SB)/8, $len; \
	DATA name<>+24(SB)/8, $abort<>+7(SB); \
	GLOBL name<>(SB), flags, $32

// AREA leaves this thread's rseq area in SI. It goes to the slow path if the
// thread is not registered.
#define AREA \
	MOVQ 0(FS), SI; \
	ADDQ offset<>+const_aloneAt(SB), SI; \
	JLE  slow

#define ARM(desc) \
	LEAQ desc<>(SB), AX; \
	MOVQ AX, const_rsCS(SI)

// BOUND goes to the slow path unless CX is a CPU that has a region.
#define BOUND \
	CMPL CX, slabfs∕internal∕percpu·CPULimit+const_aloneAt(SB); \
	JCC  slow

// ENTER arms the sequence, and leaves the area of the current CPU in CX. DI is
// the handle.
#define ENTER(desc) \
	AREA; \
	ARM(desc); \
	MOVL const_rsCPU(SI), CX; \
	BOUND; \
	SHLQ $const_shift, CX; \
	ADDQ Cache_area(DI), CX

// OWNER goes to the slow path unless the owner of the page of R9 is the cache.
// DI is the handle. internal/pages explains the table behind pages.Table. One
// load less here saves some 6 % of a pair's time.
#define OWNER(slow) \
	MOVQ slabfs∕internal∕pages·Table+const_aloneAt(SB), R10; \
	MOVQ R10, DX; \
	SUBQ R9, DX; \
	SARQ $12, DX; \
	CMPQ DX, slabfs∕internal∕pages·Table+(const_aloneAt+8)(SB); \
	JCS  slow; \
	MOVL 1(R10)(DX*4), R10; \
	CMPL R10, Cache_number(DI); \
	JNE  slow

// ABORT is where the kernel resumes an interrupted sequence: after a signature,
// which is an instruction that is never run. It counts the abort, for the
// current CPU.
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
