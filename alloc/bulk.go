package alloc

import (
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// AllocBulk fills dst with objects. At the memory limit it returns false, with
// dst all nil and nothing allocated.
//
// If the sheaf of the current CPU has all the objects, AllocBulk is one
// sequence without a lock on the rseq engine.
func (c *Cache) AllocBulk(dst []unsafe.Pointer) bool {
	clear(dst) // the collector learns what was there; objects are not Go memory and may be stored as words
	return allocBulkFast(c, dst)
}

// FreeBulk frees all objects of src and finds the same mistakes as Free. If an
// object is nil or belongs to another cache, FreeBulk panics before it frees
// any. If it finds an object that is free already, or an address at which no
// object begins, it panics after it has freed all others. FreeBulk of an empty
// slice does nothing.
func (c *Cache) FreeBulk(src []unsafe.Pointer) { freeBulkFast(c, src) }

// wordsOf returns pointers as words.
func wordsOf(objs []unsafe.Pointer) []uintptr {
	return unsafe.Slice((*uintptr)(unsafe.Pointer(unsafe.SliceData(objs))), len(objs))
}

// allocBulkSlow is AllocBulk if the sheaf does not have enough objects.
func allocBulkSlow(c *Cache, dst []unsafe.Pointer) bool {
	got := 0
	defer func() {
		if got == len(dst) {
			return
		}
		if got > 0 { // at the limit, or a constructor or a dead handle panicked
			c.freeBulk(dst[:got])
		}
		clear(dst)
	}()
	c.mustLive("AllocBulk")
	for words := wordsOf(dst); got < len(words); { // nothing panics when all objects are there
		some := words[got:min(len(words), got+maxTake)]
		n := c.allocSome(some)
		if got += n; n == len(some) {
			continue
		}
		obj := allocSlow(c) // from a new slab, most likely
		if obj == nil {
			return false
		}
		words[got] = uintptr(obj)
		got++
	}
	return true
}

// maxTake is how many objects are taken at most while list_lock is held. It is
// large, so that the cost of a step hardly counts.
const maxTake = 16 * maxBatch

// allocSome fills part of dst without a new slab and returns how many objects
// it took. dst has at most maxTake slots.
func (c *Cache) allocSome(dst []uintptr) int {
	k := c.core
	c.mustLive("AllocBulk")
	pc := k.lockCPU()
	if k.dying {
		pc.mu.Unlock()
		c.panicDead("AllocBulk")
	}
	var discard slabList
	n := k.popBulk(pc, dst)
	pc.count(AllocFastpath, n)
	if n < len(dst) {
		n += k.refill(pc, dst[n:], false, &discard)
	}
	pc.mu.Unlock()
	k.discardSlabs(&discard)
	k.reportDamage()
	if invariants.Enabled {
		for _, obj := range dst[:n] {
			k.handOut(pointer(obj))
		}
	}
	return n
}

// freeBulkSlow is FreeBulk if the sheaf does not have room for all the objects.
func freeBulkSlow(c *Cache, src []unsafe.Pointer) {
	k := c.core
	c.mustLive("FreeBulk")
	var last pages.Page // the last page found to belong to the core; 0 is none
	for _, obj := range src {
		p, ok := pages.Of(obj)
		if !ok || (p != last || p == 0) && pages.Owner(p) != k.number {
			c.panicForeign(obj)
		}
		last = p
		if invariants.Enabled {
			k.mustOwn(c, obj)
		}
	}
	c.freeBulk(src)
}

// freeBulk frees objects that lie in slabs of the core.
func (c *Cache) freeBulk(src []unsafe.Pointer) {
	k := c.core
	if invariants.Enabled {
		k.takeBackAll(c, src)
	}
	var discard slabList
	others, own := 0, 0 // objects that could not go back to their slab
	for words := wordsOf(src); len(words) > 0; {
		pc := k.lockCPU()
		if k.dying {
			pc.mu.Unlock()
			c.panicDead("FreeBulk")
		}
		k.openArea(pc)
		kept := k.pushBulk(pc, words)
		pc.count(FreeFastpath, kept)
		words = words[kept:]
		if some := words[:min(len(words), maxBatch)]; len(some) > 0 {
			theirs, mine := k.makeRoom(pc, some, &discard)
			pc.count(FreeSlowpath, len(some)-mine)
			others, own = others+theirs, own+mine
			words = words[len(some):]
		}
		pc.mu.Unlock()
	}
	k.discardSlabs(&discard)
	k.damaged(others)
	k.reportDamage()
	if own > 0 {
		c.panicNotTaken(src, own)
	}
}
