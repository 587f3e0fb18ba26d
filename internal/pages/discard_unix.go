//go:build unix && !linux && !aix && !race

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

var discards = []int{unix.MADV_FREE}

func populated(unsafe.Pointer) bool { return false }
