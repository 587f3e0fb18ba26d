//go:build !linux || !amd64 || race || slabfs_invariants

package alloc

import (
	"unsafe"

	"slabfs/internal/percpu"
)

func allocFast(c *Cache) unsafe.Pointer { return allocSlow(c) }

func freeFast(c *Cache, obj unsafe.Pointer) { freeSlow(c, obj) }

func bytesFast(a *Allocator, n int) []byte { return bytesSlow(a, n) }

func freeBytesFast(a *Allocator, obj unsafe.Pointer, size int) { freeBytesSlow(a, obj, size) }

// startSequences lets the slow paths use sequences, if this build and this
// machine have any.
func startSequences() error { return percpu.StartSequences(nil) }
