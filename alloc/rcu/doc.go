// Package rcu lets readers look at what others replace and free, without a lock:
// whoever frees waits for a grace period first.
//
//	section       what a reader does between ReadLock and ReadUnlock; it may block and change threads
//	grace period  ends when every reader has left that was in a section when it began
//	phase         8 or 16: readers are counted by phase; the token of a section is its phase
//	turn          each grace period makes the other phase the one of new readers, and waits for the old one
//	fence         membarrier(2): see internal/rseq
//
// A Domain holds readers and those who wait for them. An update has three steps:
//
//  1. Replace: from now on nobody finds the old one.
//  2. Wait for a grace period: Synchronize in place, or Call for later. Callbacks
//     run on a goroutine of the domain, in order, and share grace periods;
//     Barrier waits until they have run.
//  3. Free.
//
// What a reader found in its section is safe until the section's end, if the reader
// looks by an atomic load and the updater replaces by an atomic store. A section
// that is still going on when another begins does not protect what the other
// one finds, nor the reverse: each protects what is found between its own ends.
//
// This is sleepable RCU, as Linux's SRCU, with one domain for each allocator: its
// readers hold up only its own grace periods. It is what typesafe-by-RCU caches
// are made of: their slabs are freed by Call, and the release of a cache is after
// Barrier, so that no callback comes later that knows the cache.
//
// # Counting readers
//
// Begins and ends of sections are counted apart, by phase, on the CPU where each
// happens. Only the sums mean something: a phase is empty when as many of its
// sections have ended as began, over all CPUs. On the rseq engine a count is one
// restartable sequence that commits by an increment without LOCK (seq_linux_amd64.s).
// All others, which are readers of the lock engine, of threads that the kernel refused to
// register, of CPUs beyond the highest possible number or that have not been opened, and
// those whose sequence was started over, add by atomics to counters of their own;
// a sum is over both. A section may begin by one way and end by the other.
//
// # Why a grace period is one
//
// The updater stores draining = old, phase = new, fences (rseq engine), and waits
// until the old phase is empty. Let the new phase be empty when it begins (the
// induction, below). Each reader is one of these:
//
//   - It is counted in the old phase before the fence ends. The increment may have been in
//     its CPU's store buffer, which the fence empties; so the sums have it, and
//     the wait is for it.
//   - Its sequence had loaded the old phase, and had not committed. The fence starts
//     it over, or else the kernel did when it was preempted; it counts by atomics
//     then. That is why the phase is loaded inside the section, and why there is
//     no second pass: in SRCU a reader may be preempted between the two for any time,
//     be counted in a phase that is over, and be overlooked by the next grace period.
//   - It counts by atomics. It adds, and looks at the phase again. If it still finds
//     the old one, the add came before the updater's store, and the sums have it
//     (both are sequentially consistent). If not, it takes itself out and tries
//     again. A phase that came back meanwhile is the current one again: good.
//   - It is counted in the new phase. It loaded that after the updater had stored it,
//     so it finds what the updater had stored before: not the old element. (x86
//     keeps loads in order, and stores; Go's atomics do everywhere.)
//
// So after the fence the old phase gains only readers by atomics that leave it at
// once. Ends are summed before begins: an end that is seen has its begin seen,
// since whoever ended the section knew of its begin. A reader that is in is seen
// on one side only, so equal sums say that there is none. The old phase is empty and
// stays so until it is the current one again: the induction. What a reader did in
// its section came before its last increment, and the updater saw that: what
// follows the grace period comes after all of it.
//
// A reader that leaves a draining phase wakes the updater. Its CPU may look at
// draining before others see its increment. But if the updater's sums missed the increment,
// it came after the fence, and draining was stored before that.
//
// Does the fence order memory? The manual page of MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ
// promises that sequences are started over; that it also is a full barrier on each
// running thread of the process is how the kernel does it (ipi_rseq, explicit since
// 5.11 and 5.10 stable; on x86 the return from an interrupt serializes anyway), and threads that do not
// run passed through the scheduler's. The caller has barriers on both sides.
//
// Counters wrap modulo 2^64, and so do sums; equality is not fooled by fewer than
// 2^64 readers at a time.
//
// # What can go wrong
//
// The fence may fail at any time, for want of memory or by a filter. Then no grace
// period has passed: Synchronize, Barrier and Close return ErrFence, callbacks are kept and
// tried again every 100 ms, and nothing that waits is freed. The phases have been
// turned already, so the next attempt waits for the old readers first, and then
// turns again for those of its own time.
//
// A reader that never leaves stops all grace periods of its domain. Who waits inside
// its own section waits for ever: builds with invariants or the race detector know which goroutines
// began a section that has not ended, and panic; others cannot tell. Barrier and Close from a callback always panic.
// Who holds a lock that a reader wants waits for ever as well: the checker of lock order
// is told of each wait, as an acquisition of rcu_grace_period, but not of sections.
//
// # Tests that find mistakes
//
// TestTorture and TestRush are made after rcutorture: elements that were replaced
// grow older with each grace period, and no reader may see an old one. With
// build tags that remove one protection they must fail, and do within a second
// (TestFaults, -slabfs.long, on two CPUs of an Intel Xeon at 2.80 GHz, 2026-11-22):
//
//	fault_rcu_no_wait        do not wait for readers                                      0.8 s, 0.3 s
//	fault_rcu_no_look_back   readers by atomics do not look at the phase again            0.1 s
//	fault_rcu_no_fence       no membarrier                                                0.1 s
//	fault_rcu_phase_first    the sequence loads the phase before it arms                  0.9 s
//
// All but the first go with fault_sequence, which has readers stall where it matters;
// that alone passes. TestSequenceLayout reads the machine code.
package rcu
