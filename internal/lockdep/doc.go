// Package lockdep is where every other package takes its locks from.
//
//	Class   what kind of lock it is; the classes are listed in classes.go, in lock order
//	Mutex   a mutual exclusion lock over sync.Mutex
//	Spin    the same for short sections that hardly anybody waits for, at half the price
//	RWSem   a reader-writer semaphore; a queued writer holds new readers back
//
// All have waits that testing/synctest can see: RWSem always, since it lies on
// sync.Cond, and the others after UseCond, which tests call before the first lock.
//
// The package also knows which goroutine is inside a callback (Callback,
// InCallback): what waits for callbacks to end refuses to be called from one.
//
// A lock order that is only written down drifts; this package is the one place
// that a checker needs to see.
package lockdep
