//go:build !linux || !amd64 || race || slabfs_invariants

package alloc

import "unsafe"

func allocBulkFast(c *Cache, dst []unsafe.Pointer) bool { return allocBulkSlow(c, dst) }

func freeBulkFast(c *Cache, src []unsafe.Pointer) { freeBulkSlow(c, src) }
