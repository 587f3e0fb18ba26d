//go:build unix

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserveSpace reserves n bytes of address space. They cost nothing, cannot be
// touched yet, and are left out of core dumps.
func reserveSpace(n uintptr) (unsafe.Pointer, error) {
	p, err := unix.MmapPtr(-1, 0, nil, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
	if err == nil {
		dump(unsafe.Slice((*byte)(p), n), false)
	}
	return p, err
}

// probeSpace returns an error if n bytes of address space are not available.
func probeSpace(n uintptr) error {
	p, err := reserveSpace(n)
	if err == nil {
		releaseSpace(p, n)
	}
	return err
}

// releaseSpace releases address space that reserveSpace reserved and nobody
// used.
func releaseSpace(p unsafe.Pointer, n uintptr) { _ = unix.MunmapPtr(p, n) }

// commit makes a part of reserved space usable, in whole system pages. A part
// that is usable already stays as it is.
func commit(p unsafe.Pointer, n uintptr) error {
	before := uintptr(p) & (uintptr(SystemPage()) - 1)
	whole, err := asSystem(unsafe.Add(p, -int(before)), before+n)
	if err != nil {
		return err
	}
	if err := unix.Mprotect(whole, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	dump(whole, true)
	return nil
}
