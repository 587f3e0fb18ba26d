//go:build !race

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxNode is the largest node number that Linux accepts, plus one.
const maxNode = 1024

// bind asks the system to place n pages from p on in the memory of node id, as
// long as the node has memory left.
func bind(p Page, n, id int) error {
	var mask [maxNode / 64]uint64
	if id >= maxNode {
		return unix.EINVAL
	}
	mask[id/64] = 1 << (id % 64)
	// The kernel uses one bit less than the number it is given.
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
