package alloc

import (
	"math/bits"

	"slabfs/internal/pages"
	"slabfs/internal/percpu"
)

const (
	maxSize       = 4 << 20 // bytes of the largest object
	cacheLine     = 64
	wordSize      = 8
	preferOrder   = 3 // only an object that needs a larger slab has one
	maxCPUPartial = 1<<32 - 1
)

// layout is how objects of one size lie in slabs. It follows SLUB's
// calculations (Linux 6.17).
type layout struct {
	size     uint32 // bytes from one object to the next
	inverse  uint64 // for divisions by size; see at
	align    uint32
	order    int
	pages    pages.Page // pages of a slab
	bytes    uintptr    // bytes of a slab
	objects  int        // objects per slab
	words    int        // words of a slab's bitmap
	sheafMax int        // the largest capacity of a sheaf, in objects
}

func newLayout(objectSize, align int, flags Flags, cpus int) layout {
	align = calculateAlignment(objectSize, align, flags)
	l := layout{align: uint32(align)}
	l.size = uint32((objectSize + align - 1) &^ (align - 1))
	l.inverse = 1<<inverseShift/uint64(l.size) + 1
	l.order = calculateOrder(int(l.size), cpus)
	l.pages, l.bytes = 1<<l.order, uintptr(slabBytes(l.order))
	l.objects = slabBytes(l.order) / int(l.size)
	l.words = (l.objects + 63) / 64
	l.sheafMax = percpu.DefaultCap(int(l.size))
	return l
}

// calculateAlignment returns the alignment of objects, at least 8. HWCacheAlign
// asks for a cache line, and halves it while two objects fit.
func calculateAlignment(size, align int, flags Flags) int {
	if flags&HWCacheAlign != 0 {
		line := cacheLine
		for size <= line/2 {
			line /= 2
		}
		align = max(align, line)
	}
	return max(align, wordSize)
}

// calculateOrder returns the lowest order whose slab holds enough objects and
// wastes little: at most a sixteenth of the slab, else an eighth, a quarter or
// a half.
func calculateOrder(size, cpus int) int {
	most := max(slabBytes(preferOrder)/size, 1)
	least := min(4*(bits.Len(uint(cpus))+1), most)
	for fraction := 16; fraction > 1; fraction /= 2 {
		for order := orderOf(least * size); order <= preferOrder; order++ {
			if slabBytes(order)%size <= slabBytes(order)/fraction {
				return order
			}
		}
	}
	return orderOf(size)
}

// orderOf returns the lowest order whose slab holds n bytes.
func orderOf(n int) int { return bits.Len(uint((n - 1) >> pages.Shift)) }

func slabBytes(order int) int { return pages.Size << order }

// defaultCPUPartial returns about how many free objects a CPU's slabs may hold
// (Linux 5.16 to 6.19).
func defaultCPUPartial(size uint32) uint32 {
	switch {
	case size >= 4096:
		return 6
	case size >= 1024:
		return 24
	case size >= 256:
		return 52
	default:
		return 120
	}
}

// cpuPartialSlabs returns the number of slabs for a number of objects, if half
// of each slab's objects are free.
func cpuPartialSlabs(objects uint32, perSlab int) int {
	return int((2*uint64(objects) + uint64(perSlab) - 1) / uint64(perSlab))
}

// defaultMinPartial returns how many slabs a node keeps even if they are empty.
func defaultMinPartial(size uint32) uint64 {
	return uint64(min(max((bits.Len32(size)-1)/2, 5), 10))
}
