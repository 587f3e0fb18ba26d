// Package rseq makes restartable sequences (rseq(2), Linux 4.18) usable from Go
// on linux/amd64, with and without cgo. It says why if they are not usable.
//
//	sequence   a few instructions that the kernel starts over if it preempts,
//	           migrates or signals the thread between their start and their commit
//	area       a thread's struct rseq: the kernel writes the CPU there,
//	           and the sequence arms itself there
//	0(FS)      the word that decides where a thread's area is
//	fence      membarrier(2): starts over every sequence that runs now,
//	           on all CPUs (Linux 5.10)
//
// # Where the area is
//
//	0(FS) == 0     a pure Go thread that has not registered: its Go runtime
//	               does not use the word
//	0(FS) == FS    a C library owns the thread, and glibc 2.35 or newer has
//	               registered an area at FS + __rseq_offset, a symbol of
//	               ld-linux, found in memory
//	anything else  a pure Go thread after registration: the address of its
//	               area, from a pool
//
// So one sequence serves both kinds of threads: load 0(FS), add an offset, and
// take the slow path if the sum is not above 0. Each copy of the code has its
// own offset. The offset is the lowest number until Start has proven, on a
// fresh thread, that the process is of the first or the second kind. From then
// on it is Offset.
//
// Never write through a C library's 0(FS) without knowing the offset: the
// memory there belongs to the C library. A C library unmaps a thread's area
// when the thread ends. So only assembly goes from 0(FS) to an area, because Go
// preempts no goroutine inside assembly.
//
// # What can go wrong
//
// Start returns an error, and the caller uses locks, in these cases:
//
//   - The kernel or a filter refuses rseq or membarrier.
//   - A C library owns the thread and no area can be found: musl, static glibc,
//     or glibc with the tunable glibc.pthread.rseq=0.
//   - The system is not linux/amd64.
//
// Later a single thread may fail to register. It then gets an area whose CPU
// number is -1, and every sequence refuses that number. docs/rseq.md lists the
// hazards one by one.
package rseq
