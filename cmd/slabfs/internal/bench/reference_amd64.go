package bench

const hasReference = true

// referenceAlloc is what the fast path of Alloc does. It keeps nothing.
//
//go:noescape
func referenceAlloc(r *reference) uintptr

// referenceFree is what the fast path of Free does. It keeps nothing.
//
//go:noescape
func referenceFree(r *reference, obj uintptr)
