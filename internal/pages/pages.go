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

// What a page is, and a block at most.
const (
	Shift    = 12         // log2 of a page's size in bytes
	Size     = 1 << Shift // bytes of a page
	MaxOrder = 10         // blocks have at most 2^MaxOrder pages, 4 MiB

	blockPages = 1 << MaxOrder
	hugeOrder  = 9 // of a huge page
	hugePages  = 1 << hugeOrder
	arenaAlign = hugePages << Shift
)

// ErrNoMemory is wrapped by errors of Alloc and AllocRun: the reserved address
// space, or the system's memory, is used up.
var ErrNoMemory = errors.New("out of memory")

// A Page is the number of a page of the arena. 0 is no page.
type Page uint32

// DescSize is the size of a page's descriptor in bytes. Its last byte belongs to
// this package while the page is free and must be left at 0.
const DescSize = 24

// Table is what a fast path needs to find the owner of an address without a call: where the
// arena is not Go memory, owners end where page 0 begins, that of page 0 last, so
// that one word leads to both. With n = (Last - address) >> 12, which is minus the page's
// number minus 1, the owner is at Last + 1 + 4*n if n >= End, both taken as unsigned.
//
// Before Reserve, one page has an owner, at an address that no pointer has.
//
// It has a cache line of its own: beside it would be what others write.
var Table = struct {
	_    [64]byte
	Last uint64 // address of the last byte before page 0; constant once the page heap is reserved
	End  uint64 // minus the number of pages that have an owner that can be read
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
	owners unsafe.Pointer    // I: end of one uint32 for each page, that of page 0 last
	descs  [2]unsafe.Pointer // I: DescSize bytes for each page: for the even ones, for the odd ones
	err    error             // I: why nothing could be reserved

	nodeOf []uint16 // for each growStep pages, where there are several nodes, else nil; set before they are handed out

	mu      lockdep.Mutex
	free    freeLists     // L: of the first node
	more    []freeLists   // L: of the other nodes
	touched []uint64      // L: a bit for each page below grown: there is memory behind it
	odd     []bool        // L: for each blockPages pages below grown: odd ones have used their descriptors
	odds    int           // L: how many of odd are true
	end     atomic.Uint32 // A: pages below it are usable
	grown   Page          // L: pages below it were made accessible
	mapped  atomic.Int64  // A: pages with memory behind them
	warm    atomic.Int64  // A: those of them that are free
	huge    Huge          // L: what SetHuge has asked for
	returns atomic.Uint64 // A: calls that gave memory back

	idle      int64     // L: the least that warm was since idleSince, while nothing was under way
	idleSince time.Time // L
}

// Reserve makes the package usable. It does its work once for the process and
// returns the same answer ever after. Nothing else may be called before it.
func Reserve() error {
	reserveOnce()
	return heap.err
}

// At returns the page's address.
func At(p Page) unsafe.Pointer { return unsafe.Add(heap.base, uintptr(p)<<Shift) }

// Of returns the page of an address, and whether the address lies in the arena.
func Of(ptr unsafe.Pointer) (Page, bool) {
	p := (uintptr(ptr) - uintptr(heap.base)) >> Shift
	return Page(p), p < uintptr(heap.end.Load())
}

// Owner returns the owner of a page for which Of said true.
func Owner(p Page) uint32 { return atomic.LoadUint32(owner(p)) }

// SwapOwner sets the owner of one page and reports true, if it was from until now.
func SwapOwner(p Page, from, to uint32) bool { return atomic.CompareAndSwapUint32(owner(p), from, to) }

// SetOwner sets the owner of n pages from p on, which the caller holds.
func SetOwner(p Page, n int, number uint32) {
	for i := range n {
		atomic.StoreUint32(owner(p+Page(i)), number)
	}
}

func owner(p Page) *uint32 { return (*uint32)(unsafe.Add(heap.owners, -4*(int(p)+1))) }

// Desc returns the descriptor of a page, DescSize bytes aligned to 8, for the
// holder of the run that begins there. They are undefined at first, but for the last, which is 0.
//
// A run of an even number of pages that is aligned to it begins at an even one. So
// the two kinds have a table each, and where there are only such runs half of the
// descriptors never have memory behind them.
func Desc(p Page) unsafe.Pointer { return unsafe.Add(heap.descs[p&1], uintptr(p/2)*DescSize) }

// Mapped returns how many bytes of the arena have memory behind them, free ones included.
func Mapped() int64 { return heap.mapped.Load() << Shift }

// Reserved returns the bytes of address space for pages: no more can ever be allocated.
func Reserved() int64 { return int64(heap.limit) << Shift }

// Warm returns how many bytes are free and have memory behind them: what Return can give
// back, except for free pages that share a system page with others.
func Warm() int64 { return heap.warm.Load() << Shift }

// Alloc returns a block of 2^order pages, aligned to its size, of a node of cpu.Nodes, or of another if it
// has none and no address space is left. Its content is undefined.
func Alloc(order, node int) (Page, error) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	p, err := allocBlock(order, 1<<order, node)
	heap.idle = min(heap.idle, heap.warm.Load())
	return p, err
}

// Free takes back a block of Alloc. Its owners must be 0 again.
func Free(p Page, order int) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	freeBlockOf(p, order)
}

// AllocRun returns n consecutive pages, not aligned to more than one page, of a node as Alloc does.
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

// FreeRun takes back n pages from p on, all of them from one call of AllocRun.
func FreeRun(p Page, n int) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	freePages(p, n)
}

// allocBlock returns a block of 2^order pages, the first n of them touched.
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

// allocFree is allocBlock from a node's free blocks, or returns 0 if none is large enough.
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

// allocLarge returns n pages, a multiple of blockPages: consecutive free blocks
// of the largest order, or fresh address space.
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

// allocFreeLarge is allocLarge from free blocks that suit, or returns 0 if too few lie side by side.
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

// allocFresh returns blocks of the largest order that were never used. With several nodes, the others
// of the last growStep pages become free blocks of the node. If the system does not let so much be
// used, blocks are of the node that the rest of those pages belongs to.
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
// Preconditions: heap.mu is held, or nobody else knows of the heap.
func setEnd(end Page) {
	heap.end.Store(uint32(end))
	atomic.StoreUint64(&Table.End, -uint64(end))
}
