package pages

import (
	"fmt"
	"math/bits"
	"os"
	"unsafe"
)

// The system's page may be larger than ours: 16 or 64 KiB on some kernels. The
// system gives and takes back memory in whole pages of its own. So all of our
// pages in one system page are touched together and given back together, and a
// free block smaller than a system page keeps its memory.

// systemOrder is the order of a block as large as a system page. It is constant
// after Reserve.
var systemOrder = orderOfSystem(os.Getpagesize())

func orderOfSystem(bytes int) int { return max(bits.TrailingZeros(uint(bytes))-Shift, 0) }

// SystemPage returns the size of the system's page in bytes, at least Size.
func SystemPage() int { return Size << systemOrder }

// FakeSystemPage makes the package believe that a system page has the given
// number of bytes, a power of two. It is for tests and must be called before
// Reserve.
func FakeSystemPage(bytes int) {
	systemOrder = orderOfSystem(bytes)
	if SystemPage() != bytes {
		panic(fmt.Sprintf("slabfs: a system page of %d bytes: want a power of two from %d on", bytes, Size))
	}
}

// wholePages returns the whole system pages [from, to) that hold n pages from p
// on.
func wholePages(p Page, n int) (from, to Page) {
	const one = Page(1)
	mask := one<<systemOrder - 1
	return p &^ mask, (p + Page(n) + mask) &^ mask
}

// atMost returns the most memory that n bytes can take if they begin at one of
// our pages.
func atMost(n int64) int64 {
	if n == 0 {
		return 0
	}
	s := int64(SystemPage())
	return (n + s - Size + s - 1) &^ (s - 1)
}

// asSystem returns the bytes that a system call affects when it is given n
// bytes from p on. Linux refuses a range that begins inside a page, and rounds
// the end up. asSystem does the same, so that a fake page size behaves like a
// real one.
func asSystem(p unsafe.Pointer, n uintptr) ([]byte, error) {
	mask := uintptr(SystemPage()) - 1
	if uintptr(p)&mask != 0 {
		return nil, fmt.Errorf("address %p is not aligned to a system page of %d bytes", p, mask+1)
	}
	return unsafe.Slice((*byte)(p), (n+mask)&^mask), nil
}
