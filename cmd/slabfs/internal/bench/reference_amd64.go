package bench

const hasReference = true

// referenceAlloc takes the steps of Alloc's fast path. It does not keep r.
//
//go:noescape
func referenceAlloc(r *reference) uintptr

// referenceFree takes the steps of Free's fast path. It does not keep r.
//
//go:noescape
func referenceFree(r *reference, obj uintptr)
