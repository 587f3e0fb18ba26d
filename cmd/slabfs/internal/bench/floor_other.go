//go:build !amd64

package bench

// floorAlloc is not inlined, so that it is a call.
//
//go:noinline
func floorAlloc(*floor) {}

// floorFree is not inlined, so that it is a call.
//
//go:noinline
func floorFree(*floor, uintptr) {}
