//go:build unix && !aix && !freebsd

package pages

import "golang.org/x/sys/unix"

// noReserve is the flag of mmap that keeps unused address space out of the
// system's count of memory. It is 0 on a system that has no such flag.
const noReserve = unix.MAP_NORESERVE
