//go:build race || slabfs_invariants

package alloc

import "unsafe"

// Alloc returns a value, or nil when the allocator's memory limit is reached,
// which it cannot do in the calls that Prefill has promised. Its content is
// undefined: unlike Typed.Alloc, this does not clear it.
func (l *Local[T]) Alloc() *T {
	if l.in == l.out {
		return (*T)(l.ring().refill())
	}
	l.out++
	return (*T)(l.cache.core.handOut(unsafe.Pointer(l.slots[l.out-1])))
}

// Free takes back a value of the Typed, from any Alloc. This build panics
// at once if the value is nil, another cache's, or free already.
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
