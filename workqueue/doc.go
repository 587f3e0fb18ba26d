// Package workqueue runs deferred work: the release of a cache after a grace
// period, the return of memory to the system.
//
//	Work   an item: one function, queued any number of times
//	Queue  runs items in the order of their queueing, at most MaxActive at a time
//
// An item that is queued goes through these steps:
//
//  1. Queue puts the item at the end of its queue. QueueAfter does so after a
//     delay. The item is now pending.
//  2. A worker takes the first item that is not still running, and runs its
//     function with no lock held. The item is no longer pending: from here on
//     it can be queued again, also by itself.
//  3. The function returns. The worker takes the next item, or ends.
//
// A worker is a goroutine. It ends when there is nothing to run. Workers are
// started by the queue's home, a goroutine that New starts. Timers belong to
// the home too. So nothing of a queue belongs to its user's bubble of
// testing/synctest, unless the queue was made in that bubble.
//
// # Guarantees
//
// Each guarantee has a test of its name.
//
//  1. Once: an item is pending at most once. Queueing a pending item changes
//     nothing. The run that follows begins after each of these calls, and sees
//     what their callers wrote before.
//  2. NotReentrant: an item never runs concurrently with itself, even if it is
//     queued while it runs.
//  3. Conserved: each accepted queueing leads to exactly one run, unless
//     Cancel, CancelSync or Destroy takes it back.
//  4. Order: workers take items in the order of their queueing. An item that is
//     still running is skipped until it returns, and keeps its place.
//  5. MaxActive: at most MaxActive items run at a time. With 1, the default, an
//     item begins after all items that were queued before it have returned.
//  6. Delay: an item is not queued before its time, and Mod sets a new time.
//  7. FlushItem: Work.Flush returns when the item's last queueing has run.
//  8. FlushQueue: Queue.Flush returns when everything that was queued before it
//     has run. It does not wait for later queueings, or for timers.
//  9. CancelSync: when it returns, the item is neither pending nor running.
//     During the call the item cannot be queued, not even by itself.
//  10. Drain: it returns when the queue is empty and nothing runs. During the
//     call only items of the queue, and timers that were set before, may queue.
//  11. Destroy: it drains, takes back the items that wait for their time, and
//     leaves no goroutine behind. From then on queueing is refused.
//  12. SelfWait: some calls would wait for themselves and panic instead:
//     CancelSync from within the item, and Flush, Drain or Destroy from within
//     an item of the same queue. (A call from a goroutine that the item started
//     is not recognized.)
//  13. Panic: a panic in an item ends the program, as in any goroutine that does
//     not recover. An item that calls runtime.Goexit counts as one that
//     returned.
//
// Functions run inside a lockdep callback, so functions that wait for work
// items refuse to run inside one.
package workqueue
