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
	ErrBusy       = errors.New("busy")                                // Destroy, DestroyName, Close: objects are live; SetOnline: the last CPU; nothing changed
	ErrClosed     = errors.New("the allocator is closed")             // NewCache, NewTyped, Close
	ErrExist      = errors.New("the name is taken")                   // NewCache, NewTyped: live, dying or being made
	ErrNotExist   = errors.New("does not exist")                      // DestroyName: no such cache; SetOnline: no such CPU
	ErrPermission = errors.New("the program keeps this cache")        // DestroyName: no ShellDelete; Destroy: a directory's handle
	ErrInvalid    = errors.New("invalid argument")                    // New, NewCache, NewTyped, setters
	ErrNoMemory   = errors.New("out of memory")                       // New, NewCache, NewTyped
	ErrNotBuilt   = errors.New("not available here")                  // New: the engine; SetHugePages
	ErrCallback   = errors.New("called from a callback it waits for") // Close, Destroy, DestroyName, NewCache, NewTyped: nothing changed
)
