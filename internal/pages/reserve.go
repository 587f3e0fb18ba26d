package pages

import (
	"fmt"
	"sync"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
)

// wide is 1 where an address has 64 bits, and 0 where it has 32.
const wide = ^uint(0) >> 63

// growStep is in pages. It is the most address space that is made accessible at
// a time, and the least that belongs to one node.
const growStep = 64 << 20 >> Shift

var reserveOnce = sync.OnceFunc(func() {
	heap.mu.Init(lockdep.Pages)
	if heap.err = reserve(); heap.err != nil {
		return
	}
	initNodes(len(cpu.Nodes()))
	// The first block is never used, because page 0 is no page. Its pages
	// still have owners, all 0, for Of to lead to.
	if heap.err = grow(blockPages); heap.err == nil {
		Table.Last = uint64(uintptr(heap.base)) - 1
		setEnd(blockPages)
	}
})

// bitsWidth is how many bytes of bitmaps are reserved for each page: two bits
// for each object of 8 bytes.
const bitsWidth = 2 * Size / 8 / 8

// reserve reserves half of the address space that it could get, maxArena at
// most. It leaves the other half because the process may run under a limit on
// address space.
func reserve() error {
	for limit := uintptr(maxArena); ; limit /= 2 {
		err := reserveAll(limit)
		if err == nil {
			heap.limit = Page(limit >> Shift)
			return nil
		}
		if limit <= minArena {
			return fmt.Errorf("reserve %d MiB of address space (is there a limit, ulimit -v or -l?): %w", limit>>20, err)
		}
	}
}

func reserveAll(limit uintptr) error {
	if err := probeSpace(2 * limit); err != nil { // leave as much for others
		return err
	}
	n := limit >> Shift
	tables, arena, err := reserveArena(n*(bitsWidth+DescSize+4), limit)
	if err != nil {
		return err
	}
	bitmaps.base, bitmaps.limit = tables, n*bitsWidth/wordSize
	even := unsafe.Add(tables, n*bitsWidth)
	heap.descs = [2]unsafe.Pointer{even, unsafe.Add(even, n/2*DescSize)}
	heap.owners = unsafe.Add(even, n*(DescSize+4))
	heap.base = arena
	return nil
}

// grow makes the pages below end usable, with their owners and descriptors. To
// keep calls few, it also asks for as many more as there were, growStep at
// most. The system may refuse those: usable memory counts against RLIMIT_DATA,
// and against all memory if vm.overcommit_memory is 2. If the process locks all
// memory (mlockall), usable pages have memory behind them at once, and grow
// asks for no more.
//
// Preconditions: heap.mu is held.
func grow(end Page) error {
	if heap.grown >= end {
		return nil
	}
	if err := mayAllocate(); err != nil {
		return err
	}
	from := max(heap.grown, blockPages)
	if err := growTo(end); err != nil {
		return fmt.Errorf("make %d MiB usable after %d MiB (is there a limit, ulimit -d, or overcommit?): %w: %w",
			(end-from)>>8, from>>8, ErrNoMemory, err)
	}
	if end > from && populated(At(from)) {
		touch(from, int(end-from))
		return nil
	}
	if end > blockPages {
		_ = growTo(min(end+min(end, growStep), heap.limit))
	}
	return nil
}

// growTo makes the pages below end usable and no others. If it fails halfway,
// the next call repeats the part that was done.
//
// Preconditions: heap.mu is held.
func growTo(end Page) error {
	from, to := uintptr(heap.grown), uintptr(end)
	for _, part := range []struct {
		base unsafe.Pointer
		n    uintptr // bytes
	}{
		{unsafe.Add(heap.owners, -4*int(to)), (to - from) * 4},
		{unsafe.Add(heap.descs[0], from/2*DescSize), (to - from) / 2 * DescSize},
		{unsafe.Add(heap.descs[1], from/2*DescSize), (to - from) / 2 * DescSize},
	} {
		if err := commit(part.base, part.n); err != nil {
			return err
		}
	}
	if first := max(from, blockPages); first < to { // no page of the first block is ever used
		if err := commitArena(At(Page(first)), (to-first)<<Shift); err != nil {
			return err
		}
	}
	heap.touched = append(heap.touched, make([]uint64, (to-from)/64)...)
	heap.odd = append(heap.odd, make([]bool, (to-from)/blockPages)...)
	heap.grown = end
	return nil
}

// Metadata returns how many bytes of memory the tables take at most: bits, and
// the owners and descriptors of all pages that were ever used. The owners and
// descriptors of one block fill whole pages.
func Metadata() int64 {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	const owners, descs = 4 * blockPages, DescSize / 2 * blockPages // of a block
	blocks := int64(heap.end.Load()/blockPages) - 1
	even := atMost(blocks * descs)
	return atMost(blocks*owners) + even + min(int64(heap.odds)*atMost(descs), even) +
		int64(len(heap.touched)*8+len(heap.odd)+len(heap.nodeOf)*2) + int64(bitmaps.end)*wordSize
}
