package load

import (
	"slices"
	"unsafe"

	"slabfs/alloc"
)

// A cacheSource allocates objects of a cache. Somebody else may destroy the
// cache while it has no live object.
type cacheSource struct {
	a *alloc.Allocator
	c *alloc.Cache
}

func (s *cacheSource) alloc() (b []byte, gone bool) {
	defer func() {
		if p := recover(); p != nil {
			if slices.Contains(s.a.Caches(), s.c) {
				panic(p)
			}
			b, gone = nil, true
		}
	}()
	p := (*byte)(s.c.Alloc())
	if p == nil {
		return nil, false
	}
	return unsafe.Slice(p, s.c.ObjectSize()), false
}

func (s *cacheSource) free(b []byte) { s.c.Free(unsafe.Pointer(unsafe.SliceData(b))) }
