// What the files of sequences have in common; each includes it.

// offset is this file's own; internal/percpu tells why.
DATA offset<>+const_aloneAt(SB)/8, $const_notStarted
GLOBL offset<>(SB), NOPTR, $(const_aloneAt+64)

// DESC is the descriptor of a sequence that begins at body: to where the kernel goes if it
// interrupts it, and how many bytes it has.
#define DESC(name, body, len, flags, abort) \
	DATA name<>+0(SB)/8, $0; \
	DATA name<>+8(SB)/8, $body(SB); \
	DATA name<>+16(SB)/8, $len; \
	DATA name<>+24(SB)/8, $abort<>+7(SB); \
	GLOBL name<>(SB), flags, $32

// AREA leaves this thread's rseq area in SI, if it is registered.
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

// ENTER arms, and leaves the area of the CPU at hand in CX. DI is the handle.
#define ENTER(desc) \
	AREA; \
	ARM(desc); \
	MOVL const_rsCPU(SI), CX; \
	BOUND; \
	SHLQ $const_shift, CX; \
	ADDQ Cache_area(DI), CX

// OWNER looks whether the number of the owner of the page of R9 is the cache's. How
// pages.Table leads there is told there; a load less is some 6 % of a pair's time.
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

// ABORT is where the kernel goes: behind a signature that is an instruction nobody runs. It counts
// the start, for the CPU at hand.
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
