//go:build unix && !race

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxArena = 1 << 40
	minArena = 256 << 20

	// GoMemory tells whether the arena is Go memory.
	GoMemory = false
)

func reserveArena(n uintptr) (unsafe.Pointer, error) {
	p, err := reserveSpace(n + arenaAlign)
	if err != nil {
		return nil, err
	}
	return unsafe.Add(p, -uintptr(p)&(arenaAlign-1)), nil
}

func commitArena(p unsafe.Pointer, n uintptr) error { return commit(p, n) }

// discard gives the memory of n pages back to the system. The address stays
// reserved: it must never come to be part of the Go heap while a stale pointer to it may exist.
func discard(p Page, n int) error {
	return unix.Madvise(unsafe.Slice((*byte)(At(p)), n<<Shift), adviceDiscard)
}
