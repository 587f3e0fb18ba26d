//go:build !race && !slabfs_invariants

package alloc

// The compiler inlines Alloc and Free as they are here. With one more expression in either, it would not.

// Alloc returns a value, or nil when the allocator's memory limit is reached, which cannot
// be in as many calls as Prefill was asked for. Its content is undefined: other
// than Typed.Alloc this does not clear it.
func (l *Local[T]) Alloc() *T {
	if l.in == l.out {
		return l.refill()
	}
	l.out++
	return l.slots[l.out]
}

// Free takes back a value of the Typed, whoever allocated it. That it is another cache's is
// found when it goes there: then a later Free panics, or Return. Until then it may
// be handed out again. The invariants build finds it at once, and a value that is freed twice.
func (l *Local[T]) Free(p *T) {
	l.in++
	if l.in == l.out {
		l.drain()
	}
	l.slots[l.in] = p
}
