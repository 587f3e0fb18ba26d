// Package rseq makes restartable sequences (rseq(2), Linux 4.18) usable from Go
// on linux/amd64, with cgo and without, and says when they are not.
//
//	sequence   a few instructions that the kernel starts over when it preempts,
//	           migrates or signals the thread between their begin and their commit
//	area       a thread's struct rseq: the kernel writes the CPU there, the sequence arms itself there
//	0(FS)      the word that decides where a thread's area is
//	fence      membarrier(2): starts over every sequence that runs now, on all CPUs (Linux 5.10)
//
// # Where the area is
//
//	0(FS) == 0          a pure Go thread that has not registered: its Go runtime does not use the word
//	0(FS) == FS         a C library owns the thread, and glibc 2.35 or newer has registered an area
//	                    at FS + __rseq_offset, a symbol of ld-linux, found in memory
//	anything else       a pure Go thread after registration: the address of its area, from a pool
//
// So one sequence serves both: load 0(FS), add an offset, take the slow path where
// the sum is not above 0. The offset, one for each copy of the code, is the lowest
// number until Start has proven, on a fresh thread, that the process is of the first or
// of the second kind; then it is Offset. A C library's 0(FS) must never be written
// through without knowing the offset: what lies behind it is the C library's. A C
// library unmaps a thread's area when the thread ends, so only assembly goes from
// 0(FS) to an area, where Go preempts no goroutine.
//
// # What can go wrong
//
// Start returns an error, and the caller uses locks, where the kernel or a filter
// refuses rseq or membarrier, where a C library owns the thread and no area can be
// found (musl, static glibc, glibc with the tunable glibc.pthread.rseq=0), and on other systems. Later a single thread may
// fail to register; it then gets an area whose CPU number is -1, which every sequence
// refuses. docs/rseq.md lists the hazards one by one.
package rseq
