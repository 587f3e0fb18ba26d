//go:build race || slabfs_invariants

package alloc

import "unsafe"

// Alloc returns a value of undefined content: unlike Typed.Alloc, it does not
// clear the value. It returns nil at the allocator's memory limit, but never in
// a call that Prefill has promised.
func (l *Local[T]) Alloc() *T {
	if l.in == l.out {
		return (*T)(l.ring().refill())
	}
	l.out++
	return (*T)(l.cache.core.handOut(unsafe.Pointer(l.slots[l.out-1])))
}

// Free frees a value of the Typed, from any Alloc. This build panics at once if
// the value is nil, another cache's, or free already.
func (l *Local[T]) Free(p *T) {
	c := l.cache
	c.core.mustOwn(c, unsafe.Pointer(p))
	c.core.takeBack(c, unsafe.Pointer(p))
	l.slots[l.in] = p
	l.in++
	if l.in == l.out {
		l.ring().drain()
	}
}
