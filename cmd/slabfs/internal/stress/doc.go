// Package stress runs an allocator with a mount, and lets many actors work on
// it at once, until something happens that must not happen, or the time is
// over. `slabfs stress` runs it.
//
//	world      the process that has the allocator, the mount and the actors
//	actor      a goroutine of the world that repeats one kind of work; some have a client
//	client     a process that opens, reads and writes the files for its actor
//	operation  what an actor does and times: one system call of a client, or one call of the library
//	census     a second tree, attached beside the mount, that checks the calls it gets
//	judge      the process that says whether the world's reports are right
//	proof      a counter that shows that the actors met: if it is zero, the run proves nothing
//
// The actors fight for a few cache names. Some create caches and some destroy
// them, through the library and by echo > new_cache and > delete_cache. Others
// write cpu_partial, min_partial, sheaf_capacity and shrink of these caches,
// and read all of their files. Others allocate objects from them, stamp the
// objects, and check the stamps before they free. A third of the caches share
// their slabs with others of their size, and a third are typesafe by RCU.
//
// Other actors test other paths:
//
//   - Caches with live objects refuse to be destroyed, unless they share their core.
//   - Several typesafe-by-RCU caches are destroyed at a time.
//   - Readers in RCU sections hold objects that are freed, while their cache is
//     destroyed.
//   - Hoarders stay at the memory limit.
//   - Trees attach and detach, and CPUs go offline and come back.
//   - One goroutine locks and unlocks the hotplug lock for writing all the time.
//     Without a waiting writer, the deadlock that the order of destroy avoids
//     cannot happen (docs/locking.md).
//
// # The judge
//
// The world may have been told to make a mistake (internal/fault), so it only
// reports. It counts how operations ended, what its actors saw, and what the
// allocator and the trees counted, and says which operations are under way
// (ops.go, stream.go). The judge is another process. It is not told of the
// mistake, and it has the rules (rules.go). A run is a violation if
//
//   - an operation is under way for longer than the deadline by the judge's clock,
//     or the world is silent for as long, or the world does not end when asked to
//   - an operation ended in a way its kind may not: for instance, a directory or a
//     name still exists after destroy has returned, or a store still works
//   - a cache was released before its unlinks had ended, an active reference
//     outlived its drain, or a released cache was used (Misuse)
//   - an object was allocated twice, did not fit its slab (Damage), is live after
//     all were freed, or changed its type under a reader in a section
//   - the files, the census and the allocator's list do not show the same caches
//   - lockdep, if it is on, reported an order of locks
//   - the world ended too early
//
// A mount that somebody else keeps at the end is reported, but is no violation.
// For instance, a container that was started during the run has a copy of the
// mount.
//
// The judge explains each violation in a few lines. For a deadlock, it finds in
// the stacks of all goroutines who waits for whom (hang.go), prints the stacks
// of these parties, and writes all stacks to a file. For an order of locks, it
// reads the report (order.go). A proof that is zero makes the run inconclusive.
//
// The seed fixes the choices of each actor, but not how the actors meet. The
// same seed makes a failure likely to come back, not certain.
//
// # How a run ends
//
// The process that the user started (launch.go) runs the world and the judge,
// and takes no part in what they say to each other. The world sends messages to
// the judge, and the judge sends requests to the world, each through a pipe. If
// one of them is gone, the other reads the end of its pipe and ends too, and so
// do the clients.
//
// The world never uses the mount that it serves; its clients do. When an
// operation hangs, a client may hang in the kernel, and a thread of the world
// may wait there for a lock that the client holds. So the way out is to abort
// the connection first (abort), without waiting for any process.
package stress
