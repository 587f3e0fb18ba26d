package alloc

import "errors"

// Errors of this package wrap one of these, with a few exceptions:
//
//   - A call with a context may return the context's error.
//   - NewCache and NewTyped may return the error of a Publisher.
//   - If the kernel refuses a fence, Destroy, DestroyName, Close, SetOnline and
//     the setters that flush return the error of membarrier(2), and Close may
//     return rcu.ErrFence. Nothing has changed then, and the call can be
//     repeated.
var (
	// ErrBusy: Destroy, DestroyName and Close found live objects, or
	// SetOnline was asked to take the last CPU offline. Nothing changed.
	ErrBusy = errors.New("busy")

	// ErrClosed: NewCache, NewTyped or Close was called after Close.
	ErrClosed = errors.New("the allocator is closed")

	// ErrExist: NewCache and NewTyped found a cache of that name, live,
	// dying or being made.
	ErrExist = errors.New("the name is taken")

	// ErrNotExist: DestroyName found no such cache, or SetOnline no such
	// CPU.
	ErrNotExist = errors.New("does not exist")

	// ErrPermission: DestroyName on a cache without ShellDelete, or Destroy
	// on the handle of a directory.
	ErrPermission = errors.New("the program keeps this cache")

	// ErrInvalid: an argument of New, NewCache, NewTyped or a setter is out
	// of range.
	ErrInvalid = errors.New("invalid argument")

	// ErrNoMemory: New, NewCache and NewTyped got no memory or address
	// space. Alloc and Bytes return nil instead.
	ErrNoMemory = errors.New("out of memory")

	// ErrNotBuilt: this build or this machine does not have the engine of
	// New, or the huge pages of SetHugePages.
	ErrNotBuilt = errors.New("not available here")

	// ErrCallback: Close, Destroy, DestroyName, NewCache and NewTyped would
	// wait for the callback that called them. Nothing changed.
	ErrCallback = errors.New("called from a callback it waits for")
)
