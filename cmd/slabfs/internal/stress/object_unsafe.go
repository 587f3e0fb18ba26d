package stress

import (
	"sync/atomic"
	"unsafe"

	"slabfs/alloc"
)

// An object is live, and begins with its tag.
type object struct {
	cache *alloc.Cache
	at    unsafe.Pointer
	tag   uint64 // unique among all objects ever
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

// words returns the first words of the object. Its size is a multiple of 8.
func (o object) words() []uint64 {
	return unsafe.Slice((*uint64)(o.at), min(o.cache.ObjectSize()/8, 32))
}

// intact reports whether the object holds what newObject wrote. If not, the
// same memory was allocated a second time.
func (o object) intact() bool {
	for i, w := range o.words() {
		if w != o.tag+uint64(i) {
			return false
		}
	}
	return true
}

// free frees the object through its cache, or through another that shares its
// core.
func (o object) free(c *alloc.Cache) { c.Free(o.at) }

// A kindOf is common to all objects of one typesafe-by-RCU cache, live or free.
// It is their first word, which the constructor wrote.
type kindOf uint64

// newKind returns a kind that no other object has, nor has any object had it in
// its first word.
func newKind(tag uint64) kindOf { return kindOf(^tag) }

func (k kindOf) construct(at unsafe.Pointer) { (*atomic.Uint64)(at).Store(uint64(k)) }

// A posted object can be found by readers, and they may go on looking at it
// after it is freed.
type posted struct {
	at   unsafe.Pointer
	kind kindOf
}

// post allocates an object. It returns nil at the memory limit.
func (k kindOf) post(c *alloc.Cache) *posted {
	if at := c.Alloc(); at != nil {
		return &posted{at, k}
	}
	return nil
}

func (p *posted) free(c *alloc.Cache) { c.Free(p.at) }

// ofKind reports whether the memory still holds an object of the kind.
func (p *posted) ofKind() bool { return (*atomic.Uint64)(p.at).Load() == uint64(p.kind) }
