//go:build unix

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserveSpace takes address space that costs nothing and cannot be touched yet.
func reserveSpace(n uintptr) (unsafe.Pointer, error) {
	return unix.MmapPtr(-1, 0, nil, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
}

// commit makes a part of reserved space usable; n is a multiple of a page's size.
func commit(p unsafe.Pointer, n uintptr) error {
	return unix.Mprotect(unsafe.Slice((*byte)(p), n), unix.PROT_READ|unix.PROT_WRITE)
}
