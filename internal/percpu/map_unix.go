//go:build unix

package percpu

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapRegions returns zeroed memory that is never unmapped.
func mapRegions(n uintptr) (unsafe.Pointer, error) {
	return unix.MmapPtr(-1, 0, nil, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
}
