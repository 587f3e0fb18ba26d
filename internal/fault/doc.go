// Package fault makes one mistake at a time, on purpose, so that tests and
// students of the code see it caught. docs/locking.md and docs/rseq.md say what
// each mistake shows.
//
// Mistakes in the order of create and destroy are switches. Inject sets one of
// them; see Names and Explain. An allocator, a tree of files or a server asks
// for the switch once, when it is made, and keeps that mistake.
//
// Mistakes of the fast paths are constants, because a switch would cost an
// instruction there. Each is false unless the program is built with its tag.
// The compiler drops the branch of a false one.
//
//	fault_no_fence                  sheaves are closed without a fence
//	fault_no_second_fence           a destroyed cache's place is used again without a fence
//	fault_rcu_no_wait               grace periods do not wait for readers
//	fault_rcu_no_fence              grace periods do not fence
//	fault_rcu_no_look_back          a reader that counts by atomics ignores the end of its phase
//	fault_rcu_no_barrier            typesafe-by-RCU caches are released after a grace period,
//	                                not after the callbacks
//	fault_mprotect_while_closed     no fault: closing sheaves also interrupts all CPUs, by
//	                                mprotect(2)
//
// Mistakes in the assembly of the fast paths have tags too. alloc, alloc/rcu
// and docs/rseq.md list them.
package fault
