//go:build race || slabfs_invariants

package alloc

import "unsafe"

// Alloc returns a value, or nil when the allocator's memory limit is reached, which cannot
// be in as many calls as Prefill was asked for. Its content is undefined: other
// than Typed.Alloc this does not clear it.
func (l *Local[T]) Alloc() *T {
	if l.in == l.out {
		return l.refill()
	}
	l.out++
	return (*T)(l.typed.cache.core.handOut(unsafe.Pointer(l.slots[l.out])))
}

// Free takes back a value of the Typed, whoever allocated it. This build panics at once if it is
// another cache's, or free already.
func (l *Local[T]) Free(p *T) {
	c := &l.typed.cache
	c.core.mustOwn(c, unsafe.Pointer(p))
	c.core.takeBack(c, unsafe.Pointer(p))
	l.in++
	if l.in == l.out {
		l.drain()
	}
	l.slots[l.in] = p
}
