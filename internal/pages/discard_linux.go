//go:build !race

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// discards are the ways to give memory back. They are tried in this order.
// Locked memory needs the second one, which Linux has since 5.18.
var discards = []int{unix.MADV_DONTNEED, unix.MADV_DONTNEED_LOCKED}

// populated reports whether there is memory behind the address of a page that
// nobody has touched. The system puts memory there if the process locks all of
// its memory.
func populated(p unsafe.Pointer) bool {
	var in [1]byte
	_, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(p), 1, uintptr(unsafe.Pointer(&in)))
	return e == 0 && in[0]&1 != 0
}
