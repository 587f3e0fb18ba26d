//go:build !race

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxNode is what Linux takes for a node's number plus one, at most.
const maxNode = 1024

// bind asks for memory of a node for n pages from p on, where that has some.
func bind(p Page, n, id int) error {
	var mask [maxNode / 64]uint64
	if id >= maxNode {
		return unix.EINVAL
	}
	mask[id/64] = 1 << (id % 64)
	// The kernel takes the number of bits to be one less than what it is told.
	whole, err := asSystem(At(p), uintptr(n)<<Shift)
	if err != nil {
		return err
	}
	_, _, e := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(&whole[0])), uintptr(len(whole)), unix.MPOL_PREFERRED,
		uintptr(unsafe.Pointer(&mask)), maxNode+1, 0)
	if e != 0 {
		return e
	}
	return nil
}
