// Package fault breaks one protection at a time, on purpose: each constant is
// false unless the program is built with its tag, and the compiler then drops
// the branch. A test builds each broken program and asserts that the stress
// test catches it; docs/locking.md and docs/rseq.md say what each one shows.
//
//	fault_no_drain                  removal does not wait for shows and stores under way
//	fault_unlink_under_locks        destroy unlinks with slab_mutex and cpu_hotplug_lock held, as Linux did before 2022
//	fault_notify_under_locks        destroy tells the kernel of the removal with those locks held: the same mistake one layer down
//	fault_publish_under_slab_mutex  create publishes with slab_mutex and cpu_hotplug_lock held
//	fault_free_before_drain         destroy releases a cache before its files are gone
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
