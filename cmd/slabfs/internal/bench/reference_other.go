//go:build !amd64

package bench

// hasReference is false: there are no sequences to compare with a reference.
const hasReference = false

func referenceAlloc(*reference) uintptr { return 0 }

func referenceFree(*reference, uintptr) {}
