package alloc

import (
	"fmt"
	"unsafe"

	"slabfs/internal/pages"
)

// kmallocSizes are the classes of Bytes, ascending.
var kmallocSizes = []struct {
	bytes int
	name  string
}{
	{8, "kmalloc-8"}, {16, "kmalloc-16"}, {32, "kmalloc-32"}, {64, "kmalloc-64"}, {96, "kmalloc-96"},
	{128, "kmalloc-128"}, {192, "kmalloc-192"}, {256, "kmalloc-256"}, {512, "kmalloc-512"},
	{1 << 10, "kmalloc-1k"}, {2 << 10, "kmalloc-2k"}, {4 << 10, "kmalloc-4k"}, {8 << 10, "kmalloc-8k"},
}

const maxKmalloc = 8 << 10

// classOf returns the index of the smallest class that holds n bytes, 0 <= n <= maxKmalloc.
func classOf(n int) int {
	class := 0
	for kmallocSizes[class].bytes < n {
		class++
	}
	return class
}

func (a *Allocator) newKmalloc() error {
	for _, size := range kmallocSizes {
		align := size.bytes & -size.bytes // a power of two is aligned to its size
		c, err := a.newCache(size.name, size.bytes, CacheOptions{Align: min(align, pages.Size)}, uint32(size.bytes))
		if err != nil {
			return err
		}
		a.kmalloc = append(a.kmalloc, c)
	}
	for i := range a.bySize {
		a.bySize[i] = a.kmalloc[classOf(i*8)]
	}
	return nil
}

// A pageRun is the descriptor of pages that Bytes handed out whole.
type pageRun struct {
	n int // pages
	_ [pages.DescSize - 8]byte
}

var _ [0]struct{} = [unsafe.Sizeof(pageRun{}) - pages.DescSize]struct{}{}

// Bytes returns n bytes of undefined content, with the capacity of their class:
// 8, 16, 32, 64, 96, 128, 192, 256, 512, 1k, 2k, 4k or 8k, above that whole pages.
// It returns nil when the allocator's memory limit is reached. Bytes(0) is empty
// and not nil. It panics if n is negative.
//
// It is nosplit since the stack check is a load, and loads are what bounds a pair.
//
//go:nosplit
func (a *Allocator) Bytes(n int) []byte {
	if uint(n) > maxKmalloc {
		return a.pageBytes(n)
	}
	c := a.classFor(uintptr(n))
	obj := allocFast(c)
	if obj == nil {
		return nil
	}
	return unsafe.Slice((*byte)(obj), c.usersize)[:n]
}

// classFor returns a.bySize[(n+7)/8]. Written so, the compiler would first load from a to see
// whether it is nil, since the array is larger than a page.
//
// Preconditions: n <= maxKmalloc.
//
//go:nosplit
func (a *Allocator) classFor(n uintptr) *Cache {
	return *(**Cache)(unsafe.Add(unsafe.Pointer(a), unsafe.Offsetof(a.bySize)+(n+7)&(2*maxKmalloc-8)*unsafe.Sizeof(a)/8))
}

// pageBytes returns n bytes, more than a class has, in pages of their own, or nil.
func (a *Allocator) pageBytes(n int) []byte {
	if n < 0 {
		panic(fmt.Sprintf("slabfs: Bytes(%d): negative size", n))
	}
	a.kmalloc[0].mustLive("Bytes")
	count := (n-1)>>pages.Shift + 1
	size := int64(count) << pages.Shift
	if size < 0 {
		return nil
	}
	for {
		seen := a.newAttempt()
		if err := a.reserve(size); err == nil {
			p, err := pages.AllocRun(count)
			if err == nil {
				*(*pageRun)(pages.Desc(p)) = pageRun{n: count}
				pages.SetOwner(p, 1, a.large)
				pages.SetOwner(p+1, count-1, a.largeRest)
				a.runs.Add(size)
				return unsafe.Slice((*byte)(pages.At(p)), size)[:n]
			}
			a.unreserve(size)
		}
		if !a.reclaim(seen, nil) {
			return nil
		}
	}
}

// FreeBytes takes back what Bytes returned: the slice may be shorter by now, but
// must begin where it began and have the capacity that it had. It panics on any
// other slice, most often one that append moved. nil is fine.
//
// It is nosplit as Bytes is.
//
//go:nosplit
func (a *Allocator) FreeBytes(b []byte) {
	obj, size := unsafe.Pointer(unsafe.SliceData(b)), uint(cap(b))
	if size > maxKmalloc || size&(size-1) != 0 {
		a.freeBytesSlow(obj, int(size))
		return
	}
	// In slabs of objects of a power of two this tells where one begins. Whether obj
	// lies in such a slab is what freeFast looks at first.
	c := a.classFor(uintptr(size))
	if uint(c.usersize) != size || uint(uintptr(obj))&(size-1) != 0 {
		a.freeBytesSlow(obj, int(size))
		return
	}
	freeFast(c, obj)
}

// freeBytesSlow is FreeBytes of what is not one object of a power of two, or not to be freed.
func (a *Allocator) freeBytesSlow(obj unsafe.Pointer, size int) {
	switch {
	case obj == nil:
		return
	case size > maxKmalloc:
		a.freePageBytes(obj, size)
		return
	}
	c := a.bySize[(size+7)/8]
	if p, ok := pages.Of(obj); ok && int(c.usersize) == size && pages.Owner(p) == c.number {
		if _, _, exact := c.core.find(obj); exact {
			freeFast(c, obj)
			return
		}
	}
	panic(a.describeBytes(obj, size))
}

// describeBytes says what is wrong with a slice that FreeBytes got.
func (a *Allocator) describeBytes(obj unsafe.Pointer, size int) string {
	class := classOf(size)
	p, ok := pages.Of(obj)
	switch {
	case kmallocSizes[class].bytes != size:
		return fmt.Sprintf("slabfs: FreeBytes of a slice of capacity %d, which Bytes never returns: did append move it, or was it cut?", size)
	case !ok:
		return fmt.Sprintf("slabfs: FreeBytes of %p, which Bytes did not return: did append move it?", obj)
	case pages.Owner(p) != a.kmalloc[class].number:
		return fmt.Sprintf("slabfs: FreeBytes of %p, capacity %d, which %s: did append move it?", obj, size, a.describeOwner(pages.Owner(p)))
	default:
		return fmt.Sprintf("slabfs: FreeBytes of %p, which does not begin where Bytes made it begin: was it cut in front?", obj)
	}
}

func (a *Allocator) freePageBytes(obj unsafe.Pointer, size int) {
	p, ok := pages.Of(obj)
	owner := uint32(0)
	if ok {
		owner = pages.Owner(p)
	}
	if owner != a.large && owner != a.largeRest {
		panic(fmt.Sprintf("slabfs: FreeBytes of %p, capacity %d, which Bytes did not return: did append move it, or is it free already?", obj, size))
	}
	run := (*pageRun)(pages.Desc(p))
	if owner != a.large || uintptr(obj) != uintptr(pages.At(p)) || run.n<<pages.Shift != size {
		panic(fmt.Sprintf("slabfs: FreeBytes of %p, capacity %d, which is not all that Bytes returned: was it cut?", obj, size))
	}
	if !pages.SwapOwner(p, a.large, 0) { // of several that free it at once, one does
		panic(fmt.Sprintf("slabfs: FreeBytes of %p, capacity %d, which is free already", obj, size))
	}
	n := run.n
	*run = pageRun{}
	pages.SetOwner(p, n, 0)
	pages.FreeRun(p, n)
	a.runs.Add(-int64(size))
	a.unreserve(int64(size))
	a.pagesFreed()
}
