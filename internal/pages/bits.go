package pages

import (
	"fmt"
	"unsafe"
)

// This file allocates words for bitmaps that do not fit into a descriptor. A
// place is an index into one array of 8-byte words; 0 is no place. Freed places
// are kept in one list for each length, linked through their first word.

const (
	wordSize = 8
	bitsStep = 64 << 10 // bytes made accessible at a time
	maxWords = 1 << 10  // of one bitmap
)

// bitmaps is guarded by heap.mu.
var bitmaps struct {
	base  unsafe.Pointer // constant after reserve
	limit uintptr        // constant after reserve: words reserved; an index fits 32 bits
	end   uintptr        // words below it have been allocated at least once
	grown uintptr        // words below it are accessible
	free  [maxWords + 1]uint32
}

// AllocBits returns a place for n words, 1 <= n <= 1024. Their content is
// undefined. Its errors wrap ErrNoMemory.
func AllocBits(n int) (uint32, error) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	if err := mayAllocate(); err != nil {
		return 0, err
	}
	if at := bitmaps.free[n]; at != 0 {
		bitmaps.free[n] = uint32(*word(at))
		return at, nil
	}
	at := max(bitmaps.end, 1)
	end := at + uintptr(n)
	if end > bitmaps.limit {
		return 0, fmt.Errorf("allocate a bitmap of %d words: %w", n, ErrNoMemory)
	}
	for bitmaps.grown < end {
		if err := commit(unsafe.Add(bitmaps.base, bitmaps.grown*8), bitsStep); err != nil {
			return 0, fmt.Errorf("grow the bitmaps: %w: %w", ErrNoMemory, err)
		}
		bitmaps.grown += bitsStep / 8
	}
	bitmaps.end = end
	return uint32(at), nil
}

// FreeBits frees a place of n words.
func FreeBits(at uint32, n int) {
	heap.mu.Lock()
	defer heap.mu.Unlock()
	*word(at) = uint64(bitmaps.free[n])
	bitmaps.free[n] = at
}

// Bits returns the n words of a place.
func Bits(at uint32, n int) []uint64 { return unsafe.Slice(word(at), n) }

func word(at uint32) *uint64 { return (*uint64)(unsafe.Add(bitmaps.base, uintptr(at)*8)) }
