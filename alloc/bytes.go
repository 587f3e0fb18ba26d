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

// A sizeClass is a class as Bytes finds it. The capacity lies beside the cache:
// FreeBytes finds the class by it, and a load from the cache would come later.
type sizeClass struct {
	cache *Cache
	bytes uint64
}

// classOf returns the index of the smallest class that holds n bytes. n is 0 to
// maxKmalloc.
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
	a.maxBytes, a.maxFree = maxKmalloc, maxKmalloc-kmallocSizes[0].bytes
	for i := range a.bySize {
		c := a.kmalloc[classOf(i*8)]
		a.bySize[i] = sizeClass{c, uint64(c.usersize)}
	}
	return nil
}

// A pageRun is the descriptor of a page run, which Bytes returns for more than
// 8 KiB.
type pageRun struct {
	n int // pages
	_ [pages.DescSize - unsafe.Sizeof(0)]byte
}

var _ [0]struct{} = [unsafe.Sizeof(pageRun{}) - pages.DescSize]struct{}{}

// Bytes returns a slice of n bytes of undefined content. The capacity of the
// slice is the size of its class: 8, 16, 32, 64, 96, 128, 192, 256, 512, 1k,
// 2k, 4k or 8k bytes. Above 8 KiB it is whole pages of 4 KiB.
//
// Bytes returns nil at the allocator's memory limit. Bytes(0) is empty and not
// nil. Bytes panics if n is negative.
//
// Up to 8 KiB, Bytes costs about as much as Alloc of a Cache. Beyond that it
// takes locks.
func (a *Allocator) Bytes(n int) []byte { return bytesFast(a, n) }

// bytesSlow is Bytes if no sequence can serve it, or for a page run.
func bytesSlow(a *Allocator, n int) []byte {
	if uint(n) > maxKmalloc {
		return a.pageBytes(n)
	}
	c := a.bySize[(n+7)/8].cache
	c.mustLive("Bytes")
	obj := allocFast(c)
	if obj == nil {
		return nil
	}
	return unsafe.Slice((*byte)(obj), c.usersize)[:n]
}

// pageBytes returns n bytes in a page run of their own, or nil. n is more than
// the largest class, or negative.
func (a *Allocator) pageBytes(n int) []byte {
	if n < 0 {
		panic(fmt.Sprintf("slabfs: Bytes(%d): negative size", n))
	}
	a.kmalloc[0].mustLive("Bytes")
	count := (n-1)>>pages.Shift + 1
	size := int64(count) << pages.Shift
	if size < 0 {
		a.nils.Add(1)
		return nil
	}
	for {
		seen := a.newAttempt()
		if err := a.reserve(size); err == nil {
			p, err := pages.AllocRun(count, a.kmalloc[0].core.here().node.at)
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
			a.nils.Add(1)
			return nil
		}
	}
}

// FreeBytes frees a slice that Bytes returned. The slice may be shorter by now,
// but must begin where it began and have the capacity that it had. FreeBytes
// panics on any other slice, most often a slice that append has moved. A nil
// slice holds nothing, and FreeBytes does nothing.
func (a *Allocator) FreeBytes(b []byte) {
	freeBytesFast(a, unsafe.Pointer(unsafe.SliceData(b)), cap(b))
}

// freeBytesSlow is FreeBytes if no sequence can serve it: for an object whose
// size is no power of two, for a page run, nil or a mistake.
func freeBytesSlow(a *Allocator, obj unsafe.Pointer, size int) {
	switch {
	case obj == nil:
		return
	case size > maxKmalloc:
		a.freePageBytes(obj, size)
		return
	}
	c := a.bySize[(size+7)/8].cache
	if int(c.usersize) == size && c.core.owns(obj) {
		if _, _, exact := c.core.find(obj); exact {
			freeFast(c, obj)
			return
		}
	}
	panic(a.describeBytes(obj, size))
}

// describeBytes says what is wrong with the argument of FreeBytes.
func (a *Allocator) describeBytes(obj unsafe.Pointer, size int) string {
	class := classOf(size)
	p, ok := pages.Of(obj)
	if ok {
		a.kmalloc[class].mustLive("FreeBytes")
	}
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
		whose := ""
		if ok {
			a.kmalloc[0].mustLive("FreeBytes")
			whose = " and which " + a.describeOwner(owner)
		}
		panic(fmt.Sprintf("slabfs: FreeBytes of %p, capacity %d, which Bytes did not return%s: did append move it, or is it free already?", obj, size, whose))
	}
	run := (*pageRun)(pages.Desc(p))
	if owner != a.large || uintptr(obj) != uintptr(pages.At(p)) || run.n<<pages.Shift != size {
		panic(fmt.Sprintf("slabfs: FreeBytes of %p, capacity %d, which is not all that Bytes returned: was it cut?", obj, size))
	}
	if !pages.SwapOwner(p, a.large, 0) { // if several calls free it at once, one of them succeeds
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
