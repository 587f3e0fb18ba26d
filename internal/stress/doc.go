// Package stress runs an allocator with a mount and lets many actors work on it
// at once, until one of them meets what must not happen or the time is over. It is
// what `slabfs stress` runs.
//
//	actor      a goroutine that repeats one kind of work; some have a client
//	client     a child process that opens, reads and writes the files for its actor
//	operation  what an actor does and times: one system call of a client, one call of the library
//	census     a second tree, attached beside the mount, that keeps books of what the allocator tells it
//	watchdog   finds operations that do not end
//	proof      a counter that shows that the actors met: zero says that the run proves nothing
//
// The actors fight for a few cache names: some create, some destroy, by the
// library and by echo > new_cache and > delete_cache; others keep writing
// cpu_partial, min_partial and shrink of whatever has the names, and reading all of
// their files; others allocate from them, stamp the objects and look at the stamps
// again before they free. Half of the caches share their slabs with others of their
// size. Beside them caches with live objects refuse to be
// destroyed, caches that share theirs do not refuse, hoarders stay at the memory limit, trees attach and detach, and one
// goroutine takes and drops the hotplug lock for writing all the time: without a
// writer that waits, the deadlock that the order of destroy avoids cannot happen
// (docs/locking.md).
//
// A run ends with a violation when
//
//   - an operation does not end within the deadline: the stacks of all goroutines are printed at once
//   - an operation fails with an error that is not one of those it may have
//   - an object was handed out twice, or is live after all were freed
//   - a released cache was looked at (Misuse) or an object did not fit its slab (Damage)
//   - the files, the census and the allocator's list do not show the same caches
//
// The seed fixes what each actor chooses, not how the actors meet: it makes a
// failure likely to come back, not certain.
//
// This process never uses the mount that it serves; its clients do. When an
// operation hangs, a client may hang in the kernel, and a thread of this process
// may wait there for a lock that the client holds. So the way out is to abort the
// connection first (abort), not to wait for anybody.
package stress
