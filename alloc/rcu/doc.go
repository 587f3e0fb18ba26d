// Package rcu lets goroutines read objects without a lock while others replace
// and free them. An object is freed only after a grace period.
//
//	section       what a reader does between ReadLock and ReadUnlock; it may block and
//	              change threads
//	grace period  ends when every reader has left that was in a section when it began
//	phase         8 or 16: readers are counted by phase; the token of a section is its phase
//	turn          each grace period gives new readers the other phase, and waits for the
//	              readers of the old one
//	fence         membarrier(2): see internal/rseq
//
// A Domain holds readers and the goroutines that wait for them. An update has
// three steps:
//
//  1. Replace. From now on no reader finds the old element.
//  2. Wait for a grace period: Synchronize waits in place, Call waits in the
//     background. Callbacks run in order on a goroutine of the domain and share
//     grace periods. Barrier waits until they have run.
//  3. Free the old element.
//
// An element that a reader finds in its section is safe until the end of that
// section. For this the reader must find it by an atomic load, and the updater
// must replace it by an atomic store. Two sections that overlap do not protect
// each other's elements: each section protects only what is found between its
// own ends.
//
// This is sleepable RCU, like Linux's SRCU. Each allocator has a domain of its
// own, so its readers delay only its own grace periods. Typesafe-by-RCU caches
// use it: Call frees their slabs, and a cache is released after Barrier, so
// that no later callback uses the cache.
//
// # Counting readers
//
// Starts and ends of sections are counted separately, by phase, on the CPU
// where each happens. Only sums over all CPUs mean something: a phase is empty
// when as many of its sections have ended as have begun.
//
// On the rseq engine a count is one restartable sequence that commits by an
// increment without LOCK (seq_linux_amd64.s). All other counts are atomic
// additions to separate counters, and every sum is over both kinds. Readers
// count by atomics in these cases:
//
//   - on the lock engine;
//   - on a thread that the kernel refused to register;
//   - on a CPU that has not been opened, or beyond the highest possible number;
//   - if the kernel started the reader's sequence over.
//
// A section may begin in one way and end in the other.
//
// # Why a grace period is one
//
// The updater stores draining = old and phase = new, fences (rseq engine), and
// waits until the old phase is empty. Assume that the new phase is empty when
// it begins; the induction below shows it. Each reader is in one of these
// cases:
//
//   - It is counted in the old phase before the fence ends. The increment may
//     have been in its CPU's store buffer, but the fence empties that. So the
//     sums include it, and the updater waits for it.
//   - Its sequence had loaded the old phase and had not committed. Either the
//     fence starts it over, or the kernel did so when it preempted the thread.
//     The reader then counts by atomics. This is why the sequence loads the
//     phase inside the section, and why one pass is enough. In SRCU a reader
//     may be preempted for any time between the load and the count. It is then
//     counted in a phase that is over, and the next grace period may overlook
//     it.
//   - It counts by atomics. It adds, and then loads the phase again. If it
//     still finds the old phase, the addition came before the updater's store,
//     and the sums include it (both are sequentially consistent). If not, it
//     takes itself out and tries again. If the old phase has become the current
//     one again, the reader is counted correctly.
//   - It is counted in the new phase. It loaded the new phase after the updater
//     had stored it, so it also sees what the updater stored before. It cannot
//     find the old element. (x86 keeps loads in order, and stores; Go's atomics
//     do so everywhere.)
//
// So after the fence the old phase gains only readers by atomics that leave it
// at once. Ends are summed before starts. If the sums include an end, they also
// include its start, because the goroutine that ended the section knew of its
// start. A reader inside a section is counted on one side only, so equal sums
// mean that there is none. The old phase is empty, and stays empty until it is
// the current one again. This is the induction. Everything that a reader did in
// its section came before its last increment, and the updater saw that
// increment. So what follows the grace period comes after all of it.
//
// A reader that leaves a draining phase wakes the updater. Its CPU may load
// draining before others see its increment. But if the updater's sums missed
// the increment, it came after the fence, and draining was stored before the
// fence.
//
// Does the fence order memory? The manual page of
// MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ promises only that sequences are
// started over. In the kernel the fence is also a full barrier on each running
// thread of the process. This has been explicit since 5.11 and 5.10 stable
// (ipi_rseq); on x86 the return from an interrupt serializes anyway. Threads
// that do not run have passed through the scheduler's barriers. The caller has
// barriers on both sides.
//
// Counters and sums wrap modulo 2^64. Comparing them for equality is correct
// with fewer than 2^64 readers at a time.
//
// # What can go wrong
//
// The fence may fail at any time, for lack of memory or because of a filter.
// Then no grace period has passed. Synchronize, Barrier and Close return
// ErrFence. Callbacks are kept and tried again every 100 ms, and nothing that
// waits is freed. The phases have been turned already. So the next attempt
// first waits for the old readers, and then turns again for its own.
//
// A reader that never leaves stops all grace periods of its domain. A goroutine
// that waits inside its own section waits forever. Builds with invariants or
// the race detector know the goroutines whose sections have not ended, and
// panic; other builds cannot tell. Barrier and Close always panic when called
// from a callback.
//
// A goroutine that waits while it holds a lock that a reader wants also waits
// forever. The checker of lock order sees each wait as an acquisition of
// rcu_grace_period, but does not see sections.
//
// # Tests that find mistakes
//
// TestTorture and TestRush follow rcutorture: a replaced element grows older
// with each grace period, and no reader may see an old one. Build tags remove
// one protection each. With each of them the tests must fail (TestFaults,
// -slabfs.long), and they do so within a second; docs/rseq.md has the times.
//
//	fault_rcu_no_wait        do not wait for readers
//	fault_rcu_no_look_back   readers by atomics do not load the phase again
//	fault_rcu_no_fence       no membarrier
//	fault_rcu_phase_first    the sequence loads the phase before it arms
//
// All except the first also need fault_sequence, which makes readers stall
// where it matters. With fault_sequence alone the tests pass.
// TestSequenceLayout reads the machine code.
package rcu
