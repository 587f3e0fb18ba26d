package pages

import "unsafe"

// ReserveSpace reserves n bytes of address space for another package, for good.
// They begin at a system page, cost nothing and cannot be touched before
// Commit. On systems without mmap they are Go memory.
func ReserveSpace(n uintptr) (unsafe.Pointer, error) {
	mask := uintptr(SystemPage()) - 1
	// In tests, a system page may be larger than the real one.
	p, err := reserveSpace(n + mask + 1)
	if err != nil {
		return nil, err
	}
	return unsafe.Add(p, -uintptr(p)&mask), nil
}

// Commit makes n bytes of space from ReserveSpace usable, filled with zeroes. p
// is at a system page. From then on, they count as memory where the system
// limits memory.
func Commit(p unsafe.Pointer, n uintptr) error { return commit(p, n) }
