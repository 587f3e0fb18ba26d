//go:build !unix || race

package pages

import "unsafe"

const (
	maxArena = 1 << 29
	minArena = 1 << 26

	// GoMemory tells whether the arena is Go memory.
	GoMemory = true
)

// reserveArena takes one allocation, so that pointer arithmetic within the arena
// stays within one variable.
func reserveArena(n uintptr) (unsafe.Pointer, error) {
	arena := make([]byte, n+arenaAlign)
	p := unsafe.Pointer(unsafe.SliceData(arena))
	return unsafe.Add(p, -uintptr(p)&(arenaAlign-1)), nil
}

func commitArena(unsafe.Pointer, uintptr) error { return nil }

// discard loses the pages' content, as the system would.
func discard(p Page, n int) error {
	clear(unsafe.Slice((*byte)(At(p)), n<<Shift))
	return nil
}
