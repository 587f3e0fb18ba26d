//go:build !race && !slabfs_invariants

package alloc

import "unsafe"

// The compiler inlines Alloc and Free as they are here. It would not inline
// Free with one more expression.

// Alloc returns a value of undefined content: unlike Typed.Alloc, it does not
// clear the value. It returns nil at the allocator's memory limit, but never in
// a call that Prefill has promised.
func (l *Local[T]) Alloc() (p *T) {
	if l.in == l.out {
		return (*T)((*ring)(unsafe.Pointer(l)).refill())
	}
	p = l.slots[l.out]
	l.out++
	return p
}

// Free frees a value of the Typed, from any Alloc. It panics at once if the
// value is nil. A foreign value is found when it reaches the cache: a later
// Free, or Return, panics. Until then the Local may allocate it again. A build
// with -tags slabfs_invariants finds it at once, and a value that is freed
// twice.
func (l *Local[T]) Free(p *T) {
	l.slots[l.in] = p
	l.in++
	if p == nil || l.in == l.out {
		(*ring)(unsafe.Pointer(l)).drain()
	}
}
