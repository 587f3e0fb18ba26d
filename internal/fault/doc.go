// Package fault makes one mistake at a time, on purpose: a test, or somebody who
// studies this, must see it caught. docs/locking.md and docs/rseq.md say what each
// one shows.
//
// Mistakes in the order of create and destroy are switches, set by Inject: see Names
// and Explain. What is made afterwards has the mistake: an allocator, a tree of files,
// a server, each of which asks once, when it is made.
//
// Mistakes of the fast paths, where no instruction is to be had for this, are
// constants: each is false unless the program is built with its tag, and the compiler
// then drops the branch.
//
//	fault_no_fence                  sheaves are closed without a fence
//	fault_no_second_fence           a destroyed cache's place is given to the next without a fence
//	fault_rcu_no_wait               grace periods do not wait for readers
//	fault_rcu_no_fence              grace periods do not fence
//	fault_rcu_no_look_back          a reader that counts by atomics does not look whether its phase is over
//	fault_rcu_no_barrier            typesafe-by-RCU caches are released after a grace period, not after the callbacks
//	fault_mprotect_while_closed     no fault: whoever closes sheaves also interrupts all CPUs, by mprotect(2)
//
// Mistakes in the assembly of the fast paths have tags too; alloc and alloc/rcu list them, and docs/rseq.md.
package fault
