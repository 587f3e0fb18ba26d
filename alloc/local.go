package alloc

import "unsafe"

// A Local is one goroutine's own store of free values of a Typed, for loops
// that need the last nanosecond. Its Alloc and Free are inlined, and only one
// call in many goes to the cache. Prefill takes values ahead for calls of Alloc
// that must not fail, as kmem_cache_prefill_sheaf does in Linux 6.18.
//
// Two goroutines must not use a Local at the same time. As far as the cache
// knows, the values in a Local are live: the file objects counts them, and
// Destroy returns ErrBusy until Return. After Destroy, Alloc of a Local panics
// once the Local is empty.
type Local[T any] struct {
	// A Local is a ring under a type that knows T. The methods of ring are
	// the same code for every T. A method of Local takes a dictionary as
	// one more argument, so slow paths in it would keep Alloc and Free from
	// being inlined.

	in, out uint8 // the fields are those of ring
	slots   [256]*T
	behind
}

// Local returns an empty Local. It keeps up to 255 values, and the values that
// Prefill has promised.
func (t *Typed[T]) Local() *Local[T] {
	if k := t.cache.core; !k.locals.Load() {
		k.locals.Store(true)
	}
	return &Local[T]{behind: behind{cache: &t.cache}}
}

func (l *Local[T]) ring() *ring { return (*ring)(unsafe.Pointer(l)) }

// Len returns how many values the Local holds.
func (l *Local[T]) Len() int { return l.ring().len() }

// Prefill takes values from the cache until the Local holds n, and promises
// that the next n calls of Alloc return a value. Neither calls of Free between
// them nor the memory limit change that. Return ends the promise.
//
// Prefill returns false at the memory limit, and if n values can never be
// allocated. The Local then holds what it held before.
func (l *Local[T]) Prefill(n int) bool { return l.ring().prefill(n) }

// Return frees all values of the Local. The Local can be used again.
func (l *Local[T]) Return() { l.ring().giveAllBack() }
