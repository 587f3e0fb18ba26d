// Package lockdep provides the locks of every other package, and checks their
// order.
//
//	Class   a kind of lock; classes.go lists the classes in lock order
//	Mutex   a mutual exclusion lock over sync.Mutex
//	Spin    a mutual exclusion lock for short, rarely contended sections; costs half as much
//	RWSem   a reader-writer semaphore; a queued writer blocks new readers
//	Cond    a condition variable
//
// Waiting for any of them is like waiting for a sync.Mutex: a goroutine in a
// bubble of testing/synctest may wait for a goroutine outside. The bubble sees
// the waiters of an RWSem or a Cond that was made in the bubble. After UseCond,
// which tests call before the first lock, it sees the waiters of all locks.
//
// The package also knows which goroutine is inside a callback (Callback,
// InCallback). A function that waits for callbacks to end refuses to run inside
// one.
//
// # The checker
//
// A lock order that exists only in writing goes out of date. After Enable,
// every acquisition is checked before it waits. The checks are by class, as in
// Linux's lockdep.
//
//	holder   a goroutine and what it holds, in order
//	edge     "to was acquired while from was held", with the stack of the first time
//	chain    the classes that one goroutine held at once; a known chain is not checked again
//
// An acquisition takes these steps:
//
//  1. It computes the key of its chain. If the chain is known, it is done. This
//     is nearly always the case.
//  2. Otherwise it adds edges from the locks that are held, starting with the
//     last one. It stops after the first lock that the goroutine waited for,
//     because the locks before that one already have their edges.
//  3. A new edge is a violation if a strong path leads from its end back to its
//     start. The violation is counted, and the first one is reported. No later
//     search follows that edge.
//
// A path is strong if a goroutine can wait at each of its locks in turn. A
// writer blocks all others. A reader blocks writers. It also blocks shared
// readers, because a writer may queue in between. No reader blocks a recursive
// reader. So a search that arrives at a recursive reader does not continue with
// an edge that begins at a reader. A goroutine that only tries to take a lock
// does not wait: no edge ends at that lock, but edges begin there.
//
// Two locks of one class in one goroutine are also a violation. Recursive
// readers, and classes that are nested in another (classes.go), are exempt.
//
// Acquire and Release tell the checker about things that are not locks but are
// waited for like locks: active references, the kernel's inode locks, work
// items. ClassFor makes their classes.
//
// The numbers of classes and chains are limited as in Linux. A goroutine is
// known by a number that may be used again, so no goroutine may end while it
// holds a lock.
package lockdep
