//go:build !amd64

package bench

// There are no sequences to compare with it.
const hasReference = false

func referenceAlloc(*reference) uintptr { return 0 }

func referenceFree(*reference, uintptr) {}
