package pages

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
	"unsafe"

	"slabfs/internal/lockdep"
)

// The sizes of a page and of the largest block.
const (
	Shift    = 12         // log2 of a page's size in bytes
	Size     = 1 << Shift // bytes of a page
	MaxOrder = 10         // blocks have at most 2^MaxOrder pages, 4 MiB

	blockPages = 1 << MaxOrder
	hugeOrder  = 9 // order of a huge page
	hugePages  = 1 << hugeOrder
	arenaAlign = hugePages << Shift
)

// ErrNoMemory is wrapped by errors of Alloc, AllocRun and AllocBits: the
// reserved address space, or the system's memory, is used up.
var ErrNoMemory = errors.New("out of memory")

// A Page is the number of a page of the arena. 0 is no page.
type Page uint32

// DescSize is the size of a page's descriptor in bytes. The holder must leave
// the last byte at 0: while the page is free, this package uses it.
const DescSize = 24

// Table is what a fast path needs to find the owner of an address without a
// call. Unless the arena is Go memory, the owners end where page 0 begins, and
// the owner of page 0 is the last. So one word leads to both the pages and the
// owners.
//
// Let n = (Last - address) >> 12, which is -(page number) - 1. If n >= End,
// compared as unsigned numbers, the page has an owner, at Last + 1 + 4*n.
//
// Before Reserve, only one page passes that test, and no pointer has its
// address.
//
// Table has a cache line of its own, apart from variables that are written
// often.
var Table = struct {
	_    [64]byte
	Last uint64 // address of the last byte before page 0; constant after Reserve
	End  uint64 // minus the number of pages whose owner can be read
	_    [64]byte
}{Last: 1<<62 - 1, End: 1<<64 - 1}

// heap is the one page heap of the process.
//
// Protection of fields:
//
//	I  set by reserve, then constant
//	L  mu
//	A  atomic; written under mu
var heap struct {
	base   unsafe.Pointer    // I: address of page 0
	limit  Page              // I: pages reserved
	owners unsafe.Pointer    // I: end of the owners, one uint32 for each page, page 0 last
	descs  [2]unsafe.Pointer // I: DescSize bytes for each page: even pages, odd pages
	err    error             // I: why nothing could be reserved

	// nodeOf has the node of each growStep pages, set before they are
	// allocated. It is nil if there is only one node.
	nodeOf []uint16

	mu      lockdep.Mutex
	free    freeLists     // L: of the first node
	more    []freeLists   // L: of the other nodes
	touched []uint64      // L: a bit for each page below grown: it has memory behind it
	odd     []bool        // L: for each blockPages below grown: an odd descriptor was used
	odds    int           // L: how many of odd are true
	end     atomic.Uint32 // A: pages below it are usable
	grown   Page          // L: pages below it were made accessible
	mapped  atomic.Int64  // A: pages with memory behind them
	warm    atomic.Int64  // A: free pages with memory behind them
	huge    Huge          // L: what SetHuge asked for
	returns atomic.Uint64 // A: calls that gave memory back

	idle      int64     // L: the lowest value of warm since idleSince, between operations
	idleSince time.Time // L
}

// Reserve makes the package usable. It does its work once for the process and
// always returns the same answer. It must be called before anything else of the
// package, except FakeSystemPage.
func Reserve() error {
	reserveOnce()
	return heap.err
}

// At returns the address of a page.
func At(p Page) unsafe.Pointer { return unsafe.Add(heap.base, uintptr(p)<<Shift) }

// Of returns the page of an address, and whether that page has an owner that
// can be read.
func Of(ptr unsafe.Pointer) (Page, bool) {
	p := (uintptr(ptr) - uintptr(heap.base)) >> Shift
	return Page(p), p < uintptr(heap.end.Load())
}

// Owner returns the owner of a page. Of must have returned true for the page.
func Owner(p Page) uint32 { return atomic.LoadUint32(owner(p)) }

// SwapOwner replaces the owner of a page by to, if the owner is from. It
// reports whether it did.
func SwapOwner(p Page, from, to uint32) bool { return atomic.CompareAndSwapUint32(owner(p), from, to) }

// SetOwner sets the owner of n pages from p on. The caller must hold the pages.
func SetOwner(p Page, n int, number uint32) {
	for i := range n {
		atomic.StoreUint32(owner(p+Page(i)), number)
	}
}

func owner(p Page) *uint32 { return (*uint32)(unsafe.Add(heap.owners, -4*(int(p)+1))) }

// Desc returns the descriptor of a page, DescSize bytes aligned to 8, for the
// holder of the run that begins at the page. After allocation its content is
// undefined, except for the last byte, which is 0.
//
// Even and odd pages have a table each. A run of an even number of pages that
// is aligned to its size begins at an even page. If all runs are of that kind,
// half of the descriptors never have memory behind them.
func Desc(p Page) unsafe.Pointer { return unsafe.Add(heap.descs[p&1], uintptr(p/2)*DescSize) }

// Mapped returns how many bytes of the arena have memory behind them, free
// pages included.
func Mapped() int64 { return heap.mapped.Load() << Shift }

// Reserved returns how many bytes of address space are reserved for pages. No
// more can ever be allocated.
func Reserved() int64 { return int64(heap.limit) << Shift }

// Warm returns how many bytes are free and have memory behind them. Return can
// give them back, except for free pages that share a system page with pages in
// use.
func Warm() int64 { return heap.warm.Load() << Shift }

// Alloc returns a block of 2^order pages, aligned to its size, of memory node
// cpu.Nodes()[node]. If that node has no free block and no address space is
// left, the block is of another node. Its content is undefined. Its errors wrap
// ErrNoMemory.
func Alloc(order, node int) (Page, error) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	p, err := allocBlock(order, 1<<order, node)
	heap.idle = min(heap.idle, heap.warm.Load())
	return p, err
}

// Free frees a block that Alloc returned. The owners of its pages must be 0
// again.
func Free(p Page, order int) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	freeBlockOf(p, order)
}

// AllocRun returns n consecutive pages, aligned to one page. It chooses the
// node and returns errors as Alloc does.
func AllocRun(n, node int) (Page, error) {
	if n <= 0 || uint64(n) > uint64(heap.limit) {
		return 0, fmt.Errorf("allocate %d pages: %w", n, ErrNoMemory)
	}
	heap.mu.Lock()
	defer heap.mu.Unlock()
	var p Page
	var err error
	var have int
	if n <= blockPages {
		order := bits.Len(uint(n - 1))
		have = 1 << order
		p, err = allocBlock(order, n, node)
	} else {
		have = (n + blockPages - 1) &^ (blockPages - 1)
		if p, err = allocLarge(have, node); err == nil {
			touchNew(p, n, have)
		}
	}
	if err != nil {
		return 0, err
	}
	freePages(p+Page(n), have-n)
	heap.idle = min(heap.idle, heap.warm.Load())
	return p, nil
}

// FreeRun frees the n pages from p on, all of them from one call of AllocRun.
func FreeRun(p Page, n int) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	freePages(p, n)
}

// allocBlock returns a block of 2^order pages and touches the first n of them.
//
// Preconditions: heap.mu is held.
func allocBlock(order, n, node int) (Page, error) {
	if err := mayAllocate(); err != nil {
		return 0, err
	}
	if p := allocFree(order, n, node); p != 0 {
		return p, nil
	}
	p, err := allocFresh(1, node)
	if err != nil {
		for other := range nodes() {
			if p := allocFree(order, n, other); p != 0 {
				return p, nil
			}
		}
		return 0, err
	}
	touchNew(p, n, blockPages)
	heap.warm.Add(split(p, MaxOrder, order))
	return p, nil
}

// allocFree is allocBlock from a node's free blocks. It returns 0 if none is
// large enough.
//
// Preconditions: heap.mu is held.
func allocFree(order, n, node int) Page {
	for _, warm := range []int{1, 0} {
		for o := order; o <= MaxOrder; o++ {
			if p := lists(node)[warm][o]; p != 0 {
				unlinkKeepingWarm(p)
				was := countTouched(p, 1<<o)
				touchNew(p, n, 1<<o)
				heap.warm.Add(split(p, o, order) - int64(was))
				return p
			}
		}
	}
	return 0
}

// allocLarge returns n pages, a multiple of blockPages. They are consecutive
// free blocks of the largest order, or fresh address space.
//
// Preconditions: heap.mu is held.
func allocLarge(n, node int) (Page, error) {
	if err := mayAllocate(); err != nil {
		return 0, err
	}
	if p := allocFreeLarge(n, func(p Page) bool { return Node(p) == node }); p != 0 {
		return p, nil
	}
	p, err := allocFresh(n/blockPages, node)
	if err != nil && heap.nodeOf != nil {
		if p := allocFreeLarge(n, func(Page) bool { return true }); p != 0 {
			return p, nil
		}
	}
	return p, err
}

// allocFreeLarge is allocLarge from the free blocks that suit. It returns 0 if
// too few of them lie side by side.
//
// Preconditions: heap.mu is held.
func allocFreeLarge(n int, suits func(Page) bool) Page {
	begin, have := Page(0), 0
	for p := Page(blockPages); p < Page(heap.end.Load()); p += blockPages {
		if b := block(p); b.tag != tagFree || b.order != MaxOrder || !suits(p) {
			have = 0
			continue
		}
		if have == 0 {
			begin = p
		}
		if have += blockPages; have == n {
			for q := begin; q <= p; q += blockPages {
				unlink(q)
			}
			return begin
		}
	}
	return 0
}

// allocFresh returns blocks of the largest order that were never used. With
// several nodes, it takes whole groups of growStep pages, and the blocks that
// it does not return become free blocks of the node. If the system makes too
// little usable for that, allocFresh takes only what it returns. The rest of
// the last group keeps the node, even if it is allocated for another node
// later.
//
// Preconditions: heap.mu is held.
func allocFresh(blocks, node int) (Page, error) {
	p := Page(heap.end.Load())
	used := uint64(p) + uint64(blocks)*blockPages
	end := used
	if heap.nodeOf != nil {
		end = (used + growStep - 1) &^ (growStep - 1)
	}
	if end > uint64(heap.limit) {
		return 0, fmt.Errorf("allocate %d MiB of address space after %d MiB: %w", blocks*4, p>>8, ErrNoMemory)
	}
	if heap.nodeOf != nil {
		setNode(p, Page(end), node)
	}
	err := grow(Page(end))
	if err != nil && end > used {
		end = used
		err = grow(Page(end))
	}
	if err != nil {
		return 0, err
	}
	setEnd(Page(end))
	for q := Page(used); q < Page(end); q += blockPages {
		link(q, MaxOrder)
	}
	return p, nil
}

// setEnd lets the pages below end have owners.
//
// Preconditions: heap.mu is held, or no other goroutine knows of the heap.
func setEnd(end Page) {
	heap.end.Store(uint32(end))
	atomic.StoreUint64(&Table.End, -uint64(end))
}
