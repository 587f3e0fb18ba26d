package alloc

import "errors"

// Errors of this package wrap one of these.
var (
	ErrBusy       = errors.New("busy")                                // Destroy, Close: objects are live; SetOnline: the last CPU; nothing changed
	ErrClosed     = errors.New("the allocator is closed")             // NewCache, Close
	ErrExist      = errors.New("the name is taken")                   // NewCache: live, dying or being made
	ErrNotExist   = errors.New("does not exist")                      // DestroyName: no such cache; SetOnline: no such CPU
	ErrPermission = errors.New("the program keeps this cache")        // DestroyName: no ShellDelete
	ErrInvalid    = errors.New("invalid argument")                    // New, NewCache, setters
	ErrNoMemory   = errors.New("out of memory")                       // NewCache, New
	ErrNotBuilt   = errors.New("not available here")                  // New: the engine
	ErrCallback   = errors.New("called from a callback it waits for") // Close, Destroy, NewCache: nothing changed
)
