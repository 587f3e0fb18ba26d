package stress

import (
	"unsafe"

	"slabfs/alloc"
)

// An object is live, and begins with its tag.
type object struct {
	cache *alloc.Cache
	at    unsafe.Pointer
	tag   uint64 // no other object ever had it
}

// newObject allocates an object and stamps it. At the memory limit it returns false.
func newObject(c *alloc.Cache, tag uint64) (object, bool) {
	o := object{c, c.Alloc(), tag}
	if o.at == nil {
		return o, false
	}
	for i := range o.words() {
		o.words()[i] = tag + uint64(i)
	}
	return o, true
}

// words returns the beginning of the object, whose size is a multiple of 8.
func (o object) words() []uint64 {
	return unsafe.Slice((*uint64)(o.at), min(o.cache.ObjectSize()/8, 32))
}

// intact reports whether the object holds what newObject wrote. It does not if
// somebody else was given the same memory.
func (o object) intact() bool {
	for i, w := range o.words() {
		if w != o.tag+uint64(i) {
			return false
		}
	}
	return true
}

// free frees the object through its cache, or another that shares its core.
func (o object) free(c *alloc.Cache) { c.Free(o.at) }
