// Package workqueue runs what is deferred: the release of a cache after a
// grace period, the return of memory to the system.
//
//	Work   an item: one function, queued any number of times
//	Queue  what items wait on, first come first served, and what bounds how many run at a time
//
// The life of a queueing:
//
//  1. Queue puts the item at the end of its queue; QueueAfter does so when a
//     time has passed. The item is pending.
//  2. A worker takes the first item that is not still running, and runs its
//     function with no lock held. The item is no longer pending: from here on
//     it can be queued again, also by itself.
//  3. The function returns; the worker takes the next one, or ends.
//
// A worker is a goroutine. The queue's home, a goroutine that New starts, starts
// it when there is something to run, and it ends when there is not. Timers are
// the home's too. So nothing of a queue belongs to a bubble of testing/synctest
// that its user is in, unless the queue was made there.
//
// # Guarantees
//
// Each has a test of its name.
//
//  1. Once: an item is pending at most once. Queueing a pending item changes
//     nothing; the one run that follows begins after each of these calls, and
//     sees what their callers wrote before.
//  2. NotReentrant: an item never runs concurrently with itself, also when it
//     is queued while it runs.
//  3. Conserved: each accepted queueing leads to exactly one run, unless
//     Cancel, CancelSync or Destroy takes it back.
//  4. Order: items are taken in the order in which they were queued; one that
//     is still running is passed over until it returns, and keeps its place.
//  5. MaxActive: no more items than that run at a time. With 1, the default,
//     an item begins after all that were queued before it have returned.
//  6. Delay: an item is not queued before its time, and Mod sets a new time.
//  7. FlushItem: Work.Flush returns when the item's last queueing has run.
//  8. FlushQueue: Queue.Flush returns when all that was queued before it has
//     run; it does not wait for what is queued later, or for timers.
//  9. CancelSync: when it returns, the item neither is pending nor runs;
//     meanwhile it cannot be queued, not even by itself.
//  10. Drain: it returns when the queue is empty and nothing runs. Meanwhile
//     only items of the queue may queue, and timers that were set before.
//  11. Destroy: it drains, takes back what waits for its time, and leaves no
//     goroutine behind; queueing is refused from then on.
//  12. SelfWait: CancelSync from within the item, and Flush, Drain or Destroy
//     from within an item of the same queue, panic instead of waiting for ever.
//     (From a goroutine that the item started it cannot be seen.)
//  13. Panic: a panic in an item ends the program, as in any goroutine that
//     does not recover. runtime.Goexit in an item is a return.
//
// Functions run inside a lockdep callback: what waits for work items refuses
// to be called from one.
package workqueue
