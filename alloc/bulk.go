package alloc

import (
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// AllocBulk fills dst with objects, or returns false at the memory limit, with
// dst all nil and nothing allocated.
func (c *Cache) AllocBulk(dst []unsafe.Pointer) bool {
	clear(dst) // the collector learns what was there; objects are not its own, and may be stored as words
	return allocBulkFast(c, dst)
}

// FreeBulk takes objects back, as Free does each, and finds the same mistakes. If
// one of them is nil or belongs to another cache, it panics before any is taken. If
// one is found to be free already, or no object, it panics when all others are
// taken. A slice that is nil or empty is fine.
func (c *Cache) FreeBulk(src []unsafe.Pointer) { freeBulkFast(c, src) }

// wordsOf returns pointers as words.
func wordsOf(objs []unsafe.Pointer) []uintptr {
	return unsafe.Slice((*uintptr)(unsafe.Pointer(unsafe.SliceData(objs))), len(objs))
}

// allocBulkSlow is AllocBulk where the sheaf does not have so many.
func allocBulkSlow(c *Cache, dst []unsafe.Pointer) bool {
	got := 0
	defer func() {
		if got == len(dst) {
			return
		}
		if got > 0 { // at the limit, or a constructor panics, or the name has ended but not the core
			c.freeBulk(dst[:got])
		}
		clear(dst)
	}()
	c.mustLive("AllocBulk")
	for words := wordsOf(dst); got < len(words); { // nothing panics once all are there
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

// maxTake bounds how many objects are taken while list_lock is held. It is so large that each such step
// costs little.
const maxTake = 16 * maxBatch

// allocSome fills part of dst, which has maxTake at most, without new pages and returns how much.
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

// freeBulkSlow is FreeBulk where the sheaf has no room for so many.
func freeBulkSlow(c *Cache, src []unsafe.Pointer) {
	k := c.core
	c.mustLive("FreeBulk")
	var last pages.Page // of the core; 0 is nobody's
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

// freeBulk takes back objects that are the core's.
func (c *Cache) freeBulk(src []unsafe.Pointer) {
	k := c.core
	if invariants.Enabled {
		k.takeBackAll(c, src)
	}
	var discard slabList
	others, own := 0, 0 // that could not be put
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
