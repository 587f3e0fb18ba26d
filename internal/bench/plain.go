package bench

import (
	"testing"

	"slabfs/alloc"
)

// What anybody would write to time a pair, to compare this package's loops with.

func plainSlabfs(a *alloc.Allocator, name string, _ Config) (*cell, error) {
	c, destroy, err := newCache(a, name)
	return &cell{destroy: destroy, plain: func(b *testing.B) {
		for range b.N {
			c.Free(c.Alloc())
		}
	}}, err
}

func plainPool(Config) *cell {
	p := newPool()
	return &cell{plain: func(b *testing.B) {
		for range b.N {
			p.Put(p.Get().(*object))
		}
	}}
}

func plainNew(Config) *cell {
	return &cell{plain: func(b *testing.B) {
		var obj *object
		for range b.N {
			obj = new(object)
		}
		kept.Store(&obj[0])
	}}
}
