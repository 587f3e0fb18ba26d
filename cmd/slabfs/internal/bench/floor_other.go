//go:build !amd64

package bench

// floorAlloc is not inlined, because its call is what is measured.
//
//go:noinline
func floorAlloc(*floor) {}

// floorFree is not inlined, because its call is what is measured.
//
//go:noinline
func floorFree(*floor, uintptr) {}
