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

// classes is the index of the smallest class that holds n bytes, at (n+7)/8.
var classes = func() (table [maxKmalloc/8 + 1]uint8) {
	class := 0
	for i := range table {
		if i*8 > kmallocSizes[class].bytes {
			class++
		}
		table[i] = uint8(class)
	}
	return table
}()

// classOf returns the index of the smallest class that holds n bytes, n <= maxKmalloc.
func classOf(n int) int { return int(classes[(n+7)/8]) }

func (a *Allocator) newKmalloc() error {
	for _, size := range kmallocSizes {
		align := size.bytes & -size.bytes // a power of two is aligned to its size
		c, err := a.newCache(size.name, size.bytes, CacheOptions{Align: min(align, pages.Size)}, uint32(size.bytes))
		if err != nil {
			return err
		}
		a.kmalloc = append(a.kmalloc, c)
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
func (a *Allocator) Bytes(n int) []byte {
	if n < 0 {
		panic(fmt.Sprintf("slabfs: Bytes(%d): negative size", n))
	}
	if n > maxKmalloc {
		return a.pageBytes(n)
	}
	class := classOf(n)
	obj := allocFast(a.kmalloc[class])
	if obj == nil {
		return nil
	}
	return unsafe.Slice((*byte)(obj), kmallocSizes[class].bytes)[:n]
}

// pageBytes returns n bytes in pages of their own, or nil.
func (a *Allocator) pageBytes(n int) []byte {
	a.kmalloc[0].mustLive("Bytes")
	count := (n-1)>>pages.Shift + 1
	size := int64(count) << pages.Shift
	if size < 0 {
		return nil
	}
	for {
		seen := a.reclaims.Load()
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
func (a *Allocator) FreeBytes(b []byte) {
	if b == nil {
		return
	}
	size := cap(b)
	obj := unsafe.Pointer(unsafe.SliceData(b))
	if size <= maxKmalloc {
		class := classOf(size)
		c := a.kmalloc[class]
		if p, ok := pages.Of(obj); ok && kmallocSizes[class].bytes == size && pages.Owner(p) == c.number && c.core.begins(obj) {
			freeFast(c, obj)
			return
		}
		panic(a.describeBytes(obj, size))
	}
	a.freePageBytes(obj, size)
}

// begins reports whether an object of the core begins at obj, which lies in one of its slabs.
func (k *core) begins(obj unsafe.Pointer) bool {
	if size := uintptr(k.size); size&(size-1) == 0 {
		return uintptr(obj)&(size-1) == 0 // slabs are aligned to their size
	}
	_, _, exact := k.find(obj)
	return exact
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
