package pages

import "unsafe"

// ReserveSpace takes n bytes of address space for somebody else, for good, from a
// system page on. They cost nothing and cannot be touched yet. Where there is no
// mmap they are Go memory.
func ReserveSpace(n uintptr) (unsafe.Pointer, error) {
	mask := uintptr(SystemPage()) - 1
	p, err := reserveSpace(n + mask + 1) // a page of a made-up size may begin later
	if err != nil {
		return nil, err
	}
	return unsafe.Add(p, -uintptr(p)&mask), nil
}

// Commit makes n bytes of space that ReserveSpace took usable: zeroes. p is at a
// system page. From here on they count as memory where the system limits that.
func Commit(p unsafe.Pointer, n uintptr) error { return commit(p, n) }
