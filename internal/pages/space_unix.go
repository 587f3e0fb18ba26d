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

// probeSpace returns an error if so much address space cannot be had.
func probeSpace(n uintptr) error {
	p, err := reserveSpace(n)
	if err == nil {
		releaseSpace(p, n)
	}
	return err
}

// releaseSpace gives back what reserveSpace took and nobody has seen.
func releaseSpace(p unsafe.Pointer, n uintptr) { _ = unix.MunmapPtr(p, n) }

// commit makes a part of reserved space usable.
func commit(p unsafe.Pointer, n uintptr) error {
	whole, err := asSystem(p, n)
	if err != nil {
		return err
	}
	return unix.Mprotect(whole, unix.PROT_READ|unix.PROT_WRITE)
}
