// Package stress runs an allocator with a mount and lets many actors work on it
// at once, until one of them meets what must not happen or the time is over. It is
// what `slabfs stress` runs.
//
//	world      the process that has the allocator, the mount and the actors
//	actor      a goroutine of it that repeats one kind of work; some have a client
//	client     a process that opens, reads and writes the files for its actor
//	operation  what an actor does and times: one system call of a client, one call of the library
//	census     a second tree, attached beside the mount, that keeps books of what the allocator tells it
//	judge      the process that says whether what the world reports is right
//	proof      a counter that shows that the actors met: zero says that the run proves nothing
//
// The actors fight for a few cache names: some create, some destroy, by the
// library and by echo > new_cache and > delete_cache; others keep writing
// cpu_partial, min_partial, sheaf_capacity and shrink of whatever has the names, and
// reading all of their files; others allocate from them, stamp the objects and look at
// the stamps again before they free. A third of the caches share their slabs with others
// of their size, a third are typesafe by RCU. Beside them caches with live objects refuse
// to be destroyed, caches that share theirs do not refuse, several typesafe-by-RCU caches
// are destroyed at a time, readers in RCU sections hold objects that are freed and
// whose cache is destroyed, hoarders stay at the memory limit, trees attach and detach,
// and CPUs go offline and come back. One goroutine takes and drops the hotplug lock for writing all the
// time: without a writer that waits, the deadlock that the order of destroy avoids
// cannot happen (docs/locking.md).
//
// # Who judges
//
// The world may have been told to make a mistake (internal/fault). So it only counts:
// how operations ended, what its actors saw, what the allocator and the trees
// counted, which operations are under way (ops.go, stream.go). The judge is another
// process, is not told of the mistake, and has the rules (rules.go). It calls a run a violation when
//
//   - an operation is under way for longer than the deadline, by the judge's clock, or the
//     world says nothing for as long, or does not end when asked to
//   - an operation ended as its kind may not: so a directory or a name that is there
//     after destroy has returned, or a store that still works
//   - a cache was released before its unlinks had ended, or an active reference was left
//     by its drain, or a released cache was looked at (Misuse)
//   - an object was handed out twice, did not fit its slab (Damage), is live after all were freed,
//     or changed its type under a reader in a section
//   - the files, the census and the allocator's list do not show the same caches
//   - lockdep, if it is on, reported an order of locks
//   - the world ended before its time
//
// A mount that somebody else keeps at the end, as a container does that was started during
// the run and has a copy of it, is told of and is no violation.
//
// The judge explains each violation in a few lines. For a deadlock it finds in the stacks of
// all goroutines who waits for whom (hang.go), shows the stacks of these parties alone, and
// writes the others to a file. For an order of locks it reads the report (order.go). A proof
// that is zero makes the run inconclusive.
//
// The seed fixes what each actor chooses, not how the actors meet: it makes a
// failure likely to come back, not certain.
//
// # How a run ends
//
// The process that the user started (launch.go) runs the other two, and asks and answers
// nothing between them. Messages go from the world to the judge, requests the other way, each through a pipe:
// when one of them is gone, the other reads the end of its pipe and ends too, and
// so do the clients. The world never uses the mount that it serves; its clients
// do. When an operation hangs, a client may hang in the kernel, and a thread of the
// world may wait there for a lock that the client holds. So the way out is to abort the
// connection first (abort), not to wait for anybody.
package stress
