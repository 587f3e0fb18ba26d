//go:build unix && !race

package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxArena = 1 << (29 + 11*wide) // 1 TiB; 512 MiB where addresses have 32 bits
	minArena = 1 << (26 + 2*wide)  // 256 MiB; 64 MiB there

	// GoMemory reports whether the arena is Go memory.
	GoMemory = false
)

// reserveArena reserves n bytes for the arena and tables bytes for the tables,
// which end where the arena begins.
func reserveArena(tables, n uintptr) (table, arena unsafe.Pointer, err error) {
	p, err := reserveSpace(tables + n + arenaAlign)
	if err != nil {
		return nil, nil, err
	}
	arena = unsafe.Add(p, tables)
	arena = unsafe.Add(arena, -uintptr(arena)&(arenaAlign-1))
	return unsafe.Add(arena, -int(tables)), arena, nil
}

func commitArena(p unsafe.Pointer, n uintptr) error { return commit(p, n) }

// discard gives the memory of n pages back to the system. The addresses stay
// reserved: they must never become part of the Go heap while a stale pointer to
// them may exist.
func discard(p Page, n int) error {
	whole, err := asSystem(At(p), uintptr(n)<<Shift)
	if err != nil {
		return err
	}
	for _, advice := range discards {
		if err = unix.Madvise(whole, advice); err == nil {
			return nil
		}
	}
	return err
}
