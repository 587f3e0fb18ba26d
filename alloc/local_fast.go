//go:build !race && !slabfs_invariants

package alloc

import "unsafe"

// The compiler inlines Alloc and Free as they are here. With one more expression
// in Free, it would not.

// Alloc returns a value, or nil when the allocator's memory limit is reached,
// which it cannot do in the calls that Prefill has promised. Its content is
// undefined: unlike Typed.Alloc, this does not clear it.
func (l *Local[T]) Alloc() (p *T) {
	if l.in == l.out {
		return (*T)((*ring)(unsafe.Pointer(l)).refill())
	}
	p = l.slots[l.out]
	l.out++
	return p
}

// Free takes back a value of the Typed, from any Alloc. It panics if the
// value is nil. A value of another cache is found when it reaches the cache: a
// later Free, or Return, panics. Until then it may be allocated again. The
// invariants build finds it at once, and a value that is freed twice.
func (l *Local[T]) Free(p *T) {
	l.slots[l.in] = p
	l.in++
	if p == nil || l.in == l.out {
		(*ring)(unsafe.Pointer(l)).drain()
	}
}
