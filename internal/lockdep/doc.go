// Package lockdep is where every other package takes its locks from.
//
//	Class   what kind of lock it is; the classes are listed in classes.go, in lock order
//	Mutex   a mutual exclusion lock over sync.Mutex
//	Spin    the same for short sections that hardly anybody waits for, at half the price
//	RWSem   a reader-writer semaphore; a queued writer holds new readers back
//
//	Cond    a condition variable
//
// Their waits are like those for a sync.Mutex: a goroutine in a bubble of
// testing/synctest may wait for one outside. The bubble sees who waits for an
// RWSem or a Cond that was made in it, and for all of them after UseCond, which
// tests call before the first lock.
//
// The package also knows which goroutine is inside a callback (Callback,
// InCallback): what waits for callbacks to end refuses to be called from one.
//
// # The checker
//
// A lock order that is only written down drifts. After Enable every acquisition is
// checked, in the way of Linux's lockdep: by class, before anybody waits.
//
//	holder   a goroutine, with what it holds, in order
//	edge     "to was acquired while from was held", with the stack of the first time
//	chain    the classes that one goroutine held at once; one that was seen is not looked at again
//
// An acquisition
//
//  1. makes the key of its chain. Known: done, which is nearly always.
//  2. Else it adds edges from what is held, from the last down to the first that was
//     waited for: what is below that one has its edge already.
//  3. A new edge is a violation if a strong path leads back from its end to its
//     beginning. It is counted, and the first is reported; no search follows that edge.
//
// A path is strong if somebody can wait at each of its locks in turn. What blocks
// whom: a writer everybody, a reader writers and, since a writer may wait in
// between, shared readers; recursive readers wait for nobody who reads. So an edge
// that ends at a recursive reader is not followed by one that begins at a reader.
// Who only tries does not wait: no edge ends there, but edges begin there.
//
// Two locks of one class in one goroutine are a violation too, but for recursive
// readers and for classes that are nested in another (classes.go).
//
// What is no lock but waited for like one is told with Acquire and Release: active
// references, the kernel's inode locks, work items. Their classes come from ClassFor.
//
// Classes and chains are bounded as in Linux. A goroutine is known by
// its number, which may be used again: none may end with a lock.
package lockdep
