//go:build !unix

package pages

import "unsafe"

func reserveSpace(n uintptr) (unsafe.Pointer, error) {
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, n/8))), nil
}

func probeSpace(uintptr) error { return nil }

func releaseSpace(unsafe.Pointer, uintptr) {}

func commit(unsafe.Pointer, uintptr) error { return nil }
