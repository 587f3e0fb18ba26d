//go:build !unix || race

package pages

import "unsafe"

const (
	maxArena = 1 << 29
	minArena = 1 << 26

	// GoMemory reports whether the arena is Go memory.
	GoMemory = true
)

// reserveArena reserves n bytes for the arena and tables bytes for the tables.
// Each is one allocation, so that pointer arithmetic stays within one variable.
// The word after the tables gives the end of the tables something to point to.
func reserveArena(tables, n uintptr) (table, arena unsafe.Pointer, err error) {
	align := uintptr(SystemPage()) // which may be made up
	if table, err = reserveSpace(tables + 8 + align); err != nil {
		return nil, nil, err
	}
	table = unsafe.Add(table, -uintptr(table)&(align-1))
	p := unsafe.Pointer(unsafe.SliceData(make([]byte, n+arenaAlign)))
	return table, unsafe.Add(p, -uintptr(p)&(arenaAlign-1)), nil
}

func commitArena(unsafe.Pointer, uintptr) error { return nil }

func populated(unsafe.Pointer) bool { return false }

// discard clears the content of n pages from p on, as the system would.
func discard(p Page, n int) error {
	whole, err := asSystem(At(p), uintptr(n)<<Shift)
	clear(whole)
	return err
}
