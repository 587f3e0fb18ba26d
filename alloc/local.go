package alloc

import "unsafe"

// A Local is one goroutine's own sheaf of a Typed, for loops that need the last
// nanosecond. Its Alloc and Free are a few instructions of the caller, and go to
// the cache once in many calls. Prefill takes values for calls of Alloc that
// must not fail, as kmem_cache_prefill_sheaf does since Linux 6.18.
//
// It must not be used from two goroutines at a time. What lies in it is
// allocated as far as the cache knows: the file objects counts it, and Destroy
// finds the cache busy until Return.
//
// It is a ring under a type that knows T. The methods of ring are the same code
// for every T. A method of Local would get a dictionary as one more argument, and
// then Alloc and Free would not be inlined.
type Local[T any] struct {
	in, out uint8 // as in ring, and so are the others
	slots   [256]*T
	behind
}

// Local returns an empty Local. It keeps 255 values at most, beside those that
// Prefill has promised.
func (t *Typed[T]) Local() *Local[T] {
	if k := t.cache.core; !k.locals.Load() {
		k.locals.Store(true)
	}
	return &Local[T]{behind: behind{cache: &t.cache}}
}

func (l *Local[T]) ring() *ring { return (*ring)(unsafe.Pointer(l)) }

// Len returns how many values are at hand.
func (l *Local[T]) Len() int { return l.ring().len() }

// Prefill takes values from the cache until n are at hand, and promises that the
// next n calls of Alloc return a value. Calls of Free between them, and a memory
// limit that is reached then, change nothing about that. Return ends the promise.
// At the limit, and for an n that can never be allocated, Prefill returns false
// with the values that were at hand before.
func (l *Local[T]) Prefill(n int) bool { return l.ring().prefill(n) }

// Return gives all values back to the cache. The Local can be used again.
func (l *Local[T]) Return() { l.ring().giveAllBack() }
