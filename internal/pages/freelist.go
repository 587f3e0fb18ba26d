package pages

import (
	"math/bits"
	"unsafe"
)

// This file keeps the free blocks. Each has a descriptor and is on the list of
// its node, order and kind (warm or cold). Larger blocks are split in halves,
// and two free halves merge again.

// freeBlock is the descriptor of the first page of a free block.
//
// Protection of fields: heap.mu.
type freeBlock struct {
	next, prev Page
	_          [DescSize - 8 - 3]byte
	order      uint8
	warm       bool
	tag        uint8 // tagFree, or 0 if the page does not begin a free block
}

const tagFree = 0xf3

var _ [0]struct{} = [unsafe.Sizeof(freeBlock{}) - DescSize]struct{}{}

func block(p Page) *freeBlock { return (*freeBlock)(Desc(p)) }

// split frees the upper halves of a block until 2^to pages are left. It returns
// how many of the freed pages are warm; the caller adds them to heap.warm.
//
// Preconditions: heap.mu is held.
func split(p Page, from, to int) (warm int64) {
	for o := from - 1; o >= to; o-- {
		n := countTouched(p+1<<o, 1<<o)
		linkKeepingWarm(p+1<<o, o, n > 0)
		warm += int64(n)
	}
	return warm
}

// freePages frees n pages from p on, as the largest blocks that they hold.
//
// Preconditions: heap.mu is held.
func freePages(p Page, n int) {
	for n > 0 {
		order := min(bits.TrailingZeros32(uint32(p)), bits.Len(uint(n))-1, MaxOrder)
		freeBlockOf(p, order)
		p += 1 << order
		n -= 1 << order
	}
}

// freeBlockOf merges a block with its free buddies and puts it on a list.
//
// Preconditions: heap.mu is held.
func freeBlockOf(p Page, order int) {
	n := countTouched(p, 1<<order)
	heap.warm.Add(int64(n))
	warm := n > 0
	for ; order < MaxOrder; order++ {
		buddy := p ^ 1<<order
		b := block(buddy)
		if b.tag != tagFree || int(b.order) != order {
			break
		}
		warm = warm || b.warm
		unlinkKeepingWarm(buddy)
		p &^= 1 << order
	}
	linkKeepingWarm(p, order, warm)
}

// link puts a free block on the list of its kind and counts its warm pages.
//
// Preconditions: heap.mu is held.
func link(p Page, order int) {
	n := countTouched(p, 1<<order)
	heap.warm.Add(int64(n))
	linkKeepingWarm(p, order, n > 0)
}

func linkKeepingWarm(p Page, order int, warm bool) {
	b := block(p)
	*b = freeBlock{order: uint8(order), warm: warm, tag: tagFree}
	if at := p / blockPages; p%2 != 0 && !heap.odd[at] {
		heap.odd[at] = true
		heap.odds++
	}
	head := &lists(Node(p))[index(b.warm)][order]
	if b.next = *head; b.next != 0 {
		block(b.next).prev = p
	}
	*head = p
}

// unlink takes a free block off its list.
//
// Preconditions: heap.mu is held.
func unlink(p Page) {
	heap.warm.Add(-int64(countTouched(p, 1<<block(p).order)))
	unlinkKeepingWarm(p)
}

func unlinkKeepingWarm(p Page) {
	b := block(p)
	if b.next != 0 {
		block(b.next).prev = b.prev
	}
	if b.prev != 0 {
		block(b.prev).next = b.next
	} else {
		lists(Node(p))[index(b.warm)][b.order] = b.next
	}
	b.tag = 0
}

func index(warm bool) int {
	if warm {
		return 1
	}
	return 0
}
