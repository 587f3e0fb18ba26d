//go:build !unix || race

package pages

import "unsafe"

const (
	maxArena = 1 << 29
	minArena = 1 << 26

	// GoMemory tells whether the arena is Go memory.
	GoMemory = true
)

// reserveArena takes n bytes for the arena and so many for the tables: one
// allocation each, so that pointer arithmetic stays within one variable. Behind
// the tables is a word, for their end to point to.
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

// discard loses the pages' content, as the system would.
func discard(p Page, n int) error {
	whole, err := asSystem(At(p), uintptr(n)<<Shift)
	clear(whole)
	return err
}
