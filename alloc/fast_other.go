//go:build !linux || !amd64 || race || invariants

package alloc

import (
	"unsafe"

	"slabfs/internal/percpu"
)

func allocFast(c *Cache) unsafe.Pointer { return allocSlow(c) }

func freeFast(c *Cache, obj unsafe.Pointer) { freeSlow(c, obj) }

// startSequences lets the slow paths use sequences, where there are any.
func startSequences() error { return percpu.StartSequences(nil) }
