//go:build !race && !slabfs_invariants

package alloc

import (
	"unsafe"

	"slabfs/internal/percpu"
)

// The length of the sequence in bytes from entry to the end of the commit store.
const freeBulkLen = 232

var _ = [...]int{allocBulkLen, freeBulkLen} // only the assembler uses them

// allocBulkFast pops all of dst from the sheaf of the CPU at hand, or jumps to allocBulkSlow.
//
// //go:noescape is true as long as no slow path keeps the handle or dst. What is stored there
// has no write barrier: it is no Go memory, and there was nothing before.
//
//go:noescape
func allocBulkFast(c *Cache, dst []unsafe.Pointer) bool

// freeBulkFast checks the owners of src and pushes all of it on the sheaf of the CPU at
// hand, or jumps to freeBulkSlow.
//
// //go:noescape is true as long as no slow path keeps the handle or src; objects are
// never Go memory where this is used.
//
//go:noescape
func freeBulkFast(c *Cache, src []unsafe.Pointer)

// bulkCode returns the offset of both and their descriptors.
func bulkCode() (offset *uint64, alloc, free *percpu.Descriptor)
