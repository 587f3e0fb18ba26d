//go:build !race && !slabfs_invariants

package alloc

import (
	"unsafe"

	"slabfs/internal/percpu"
)

// The length of the sequence of freeBulkFast in bytes, from entry to the end of
// the commit store.
const freeBulkLen = 232

var _ = [...]int{allocBulkLen, freeBulkLen} // otherwise only the assembler uses them

// allocBulkFast fills all of dst from the sheaf of the current CPU, or jumps to
// allocBulkSlow.
//
// //go:noescape is true as long as no slow path keeps the handle or dst. The
// stores to dst need no write barrier: objects are not Go memory, and dst was
// cleared.
//
//go:noescape
func allocBulkFast(c *Cache, dst []unsafe.Pointer) bool

// freeBulkFast checks the owners of src and pushes all of it on the sheaf of
// the current CPU, or jumps to freeBulkSlow.
//
// //go:noescape is true as long as no slow path keeps the handle or src.
// Objects are never Go memory in this build.
//
//go:noescape
func freeBulkFast(c *Cache, src []unsafe.Pointer)

// bulkCode returns the offset of both sequences, and their descriptors.
func bulkCode() (offset *uint64, alloc, free *percpu.Descriptor)
