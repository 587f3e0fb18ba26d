package alloc

import (
	"unsafe"

	"slabfs/internal/invariants"
)

// A Local is one goroutine's own sheaf of a Typed, for loops that need the last
// nanosecond: its Alloc and Free are a few instructions of the caller, and go to the
// cache once in many. Prefill takes values for calls of Alloc that must not fail, as
// kmem_cache_prefill_sheaf does since Linux 6.18.
//
// It must not be used from two goroutines at a time. What lies in it is allocated as far as
// the cache knows: the file objects counts it, and Destroy finds the cache busy until Return.
//
// It is a ring: with a level that both Alloc and Free change, each would wait for the other's
// store, and a pair would take half as long again.
type Local[T any] struct {
	in, out uint8            // values are in the slots behind out, up to in
	slots   [256]*T          // by a byte, so that no index is out of range
	extra   []unsafe.Pointer // what Prefill took beyond that; Alloc comes to it when there is no other
	typed   *Typed[T]        // not nil
}

// Local returns an empty Local. It will keep 255 values at most, beside those of Prefill.
func (t *Typed[T]) Local() *Local[T] { return &Local[T]{typed: t} }

// Len returns how many values are at hand.
func (l *Local[T]) Len() int { return int(l.in-l.out) + len(l.extra) }

// Prefill takes values from the cache until n are at hand. It returns false at the
// memory limit, with what was at hand before.
func (l *Local[T]) Prefill(n int) bool {
	missing := n - l.Len()
	if missing <= 0 {
		return true
	}
	objs := make([]unsafe.Pointer, missing)
	if !l.typed.cache.AllocBulk(objs) {
		return false
	}
	l.add(objs)
	return true
}

// Return gives all values back to the cache. The Local can be used again.
func (l *Local[T]) Return() {
	defer l.typed.cache.freeLocal(l.extra)
	l.extra = nil
	l.giveBack(int(l.in - l.out))
}

// add puts objects that were allocated into the ring, or behind it.
func (l *Local[T]) add(objs []unsafe.Pointer) {
	for _, obj := range objs {
		if invariants.Enabled {
			l.typed.cache.core.takeBack(&l.typed.cache, obj)
		}
		if l.in+1 == l.out {
			l.extra = append(l.extra, obj)
			continue
		}
		l.in++
		l.slots[l.in] = (*T)(obj)
	}
}

// refill returns a value, and brings more unless that needs a new slab.
//
// Preconditions: the ring is empty.
func (l *Local[T]) refill() *T {
	if n := len(l.extra) - 1; n >= 0 {
		obj := l.extra[n]
		l.extra = l.extra[:n]
		return (*T)(l.typed.cache.core.handOut(obj))
	}
	c := &l.typed.cache
	var buf [maxBatch]unsafe.Pointer
	n := c.allocSome(wordsOf(buf[:batchOf(c.core.sheafMax)]))
	if n == 0 {
		return (*T)(c.Alloc())
	}
	l.add(buf[1:n])
	return (*T)(buf[0])
}

// drain makes room for the value that Free has counted already.
//
// Preconditions: the ring is full.
//
//go:noinline
func (l *Local[T]) drain() {
	l.in-- // a panic leaves the value with the caller of Free
	l.giveBack(128)
	l.in++
}

// giveBack gives the n values back that have been here longest.
func (l *Local[T]) giveBack(n int) {
	var buf [255]unsafe.Pointer
	objs := buf[:n]
	for i := range objs {
		l.out++
		objs[i] = unsafe.Pointer(l.slots[l.out])
	}
	l.typed.cache.freeLocal(objs)
}

// freeLocal is FreeBulk for what a Local took back. What is the cache's is freed, also if
// its name has ended and its core has not; then it panics if there was more.
func (c *Cache) freeLocal(objs []unsafe.Pointer) {
	k := c.core
	var foreign unsafe.Pointer
	good := objs[:0]
	for _, obj := range objs {
		if k.owns(obj) {
			good = append(good, k.handOut(obj)) // which freeBulk takes back
		} else {
			foreign = obj
		}
	}
	found := len(good) < len(objs)
	c.freeBulk(good)
	if found {
		c.panicForeign(foreign)
	}
}
