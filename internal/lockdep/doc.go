// Package lockdep is where every other package takes its locks from.
//
//	Class   what kind of lock it is; the classes are listed in classes.go, in lock order
//	Mutex   a mutual exclusion lock over sync.Mutex
//	RWSem   a reader-writer semaphore; a queued writer holds new readers back
//
// Both have waits that testing/synctest can see: RWSem always, since it lies on
// sync.Cond, and Mutex after UseCond, which tests call before the first lock.
//
// The package also knows which goroutine is inside a callback (Callback,
// InCallback): what waits for callbacks to end refuses to be called from one.
//
// A lock order that is only written down drifts; this package is the one place
// that a checker needs to see.
package lockdep
