package bench

import (
	"unsafe"

	"slabfs/alloc"
)

func deepSlabfs(a *alloc.Allocator, name string, _ Config) (*cell, error) {
	c, destroy, err := newCache(a, name)
	objs := make([]unsafe.Pointer, deep)
	return &cell{destroy: destroy, loop: func(n int) {
		for range n {
			for i := range objs {
				objs[i] = c.Alloc()
			}
			for _, obj := range objs {
				c.Free(obj)
			}
		}
	}}, err
}

func bulkSlabfs(a *alloc.Allocator, name string, _ Config) (*cell, error) {
	c, destroy, err := newCache(a, name)
	objs := make([]unsafe.Pointer, bulk)
	return &cell{destroy: destroy, loop: func(n int) {
		for range n {
			c.AllocBulk(objs)
			c.FreeBulk(objs)
		}
	}}, err
}
