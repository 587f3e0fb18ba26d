package alloc

import (
	"slices"
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// A ring is a Local of any type.
//
// It is a ring, and no stack: with a level that both Alloc and Free change, each
// would wait for the other's store, and a pair would take half as long again.
type ring struct {
	in, out uint8               // values are in the slots from out on, up to in; none if they are equal
	slots   [256]unsafe.Pointer // by a byte, so that no index is out of range
	behind
}

// behind is what a ring has beside its slots.
type behind struct {
	extra    []unsafe.Pointer // values that Prefill took, or that it promised; Alloc comes to them when the slots are empty
	promised int              // Free leaves so many values at hand: Prefill has promised no more
	cache    *Cache           // not nil
}

// A Local is a ring.
var (
	_ [0]struct{} = [unsafe.Sizeof(Local[byte]{}) - unsafe.Sizeof(ring{})]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(Local[byte]{}.behind) - unsafe.Offsetof(ring{}.behind)]struct{}{}
)

// halfRing is how many values move at a time between the slots and what is behind.
const halfRing = 128

func (r *ring) len() int { return int(r.in-r.out) + len(r.extra) }

func (r *ring) prefill(n int) bool {
	if n > r.len() && !r.take(n-r.len()) {
		return false
	}
	r.promised = max(r.promised, n)
	return true
}

// take takes n more values from the cache, or none.
func (r *ring) take(n int) (ok bool) {
	if k := r.cache.core; int64(n) > k.most() {
		k.a.nils.Add(1)
		return false
	}
	before := len(r.extra)
	defer func() {
		if !ok { // at the limit, or a constructor panics, or the name has ended
			objs := r.extra[before:]
			r.extra = r.extra[:before]
			r.cache.freeLocal(objs)
		}
	}()
	for n > 0 {
		here := len(r.extra)
		r.extra = slices.Grow(r.extra, min(n, maxTake)) // step by step: there may be less memory than was asked for
		objs := r.extra[here : here+min(n, maxTake)]
		if !r.cache.AllocBulk(objs) {
			return false
		}
		r.takeBack(objs)
		r.extra = r.extra[:here+len(objs)]
		n -= len(objs)
	}
	return true
}

// most returns how many objects fit into the limit, or else into the address space.
func (k *core) most() int64 {
	bytes := pages.Reserved()
	if limit := k.a.limit.Load(); limit > 0 {
		bytes = min(bytes, limit)
	}
	return bytes / int64(k.size)
}

// takeBack notes that objects are nobody's: they are live again when Alloc
// returns them.
func (r *ring) takeBack(objs []unsafe.Pointer) {
	if invariants.Enabled {
		for _, obj := range objs {
			r.cache.core.takeBack(r.cache, obj)
		}
	}
}

// fill puts objects in slots that are empty.
func (r *ring) fill(objs []unsafe.Pointer) {
	for _, obj := range objs {
		r.slots[r.in] = obj
		r.in++
	}
}

// refill returns a value for Alloc, and brings more unless that needs a new slab.
//
// Preconditions: the slots are empty.
func (r *ring) refill() unsafe.Pointer {
	c, n := r.cache, len(r.extra)
	r.promised = max(min(r.promised, n)-1, 0) // what is promised is at hand, and this is the first of it
	if n > 0 {
		objs := r.extra[max(n-halfRing, 0):]
		r.extra = r.extra[:n-len(objs)]
		r.fill(objs[1:])
		return c.core.handOut(objs[0])
	}
	var buf [maxBatch]unsafe.Pointer
	n = c.allocSome(wordsOf(buf[:batchOf(c.core.sheafMax)]))
	if n == 0 {
		return c.Alloc()
	}
	r.takeBack(buf[1:n])
	r.fill(buf[1:n])
	return buf[0]
}

// drain makes room behind the value that Free has put in the last slot, or
// panics if that is nil. A panic leaves the value with the caller of Free.
//
// Preconditions: all slots are full, or the last value is nil.
//
//go:noinline
func (r *ring) drain() {
	r.in--
	if r.slots[r.in] == nil {
		r.cache.panicNil()
	}
	var buf [halfRing]unsafe.Pointer
	if missing := r.promised - len(r.extra); missing > 0 {
		r.extra = append(r.extra, r.oldest(buf[:min(missing, halfRing)])...)
	} else {
		r.cache.freeLocal(r.oldest(buf[:]))
	}
	r.in++
}

// oldest moves the values that have been in the slots longest to objs.
func (r *ring) oldest(objs []unsafe.Pointer) []unsafe.Pointer {
	for i := range objs {
		objs[i] = r.slots[r.out]
		r.out++
	}
	return objs
}

// giveAllBack is Return.
func (r *ring) giveAllBack() {
	defer r.cache.freeLocal(r.extra)
	r.extra, r.promised = nil, 0
	var buf [255]unsafe.Pointer
	r.cache.freeLocal(r.oldest(buf[:r.in-r.out]))
}

// freeLocal is FreeBulk for what a Local took back. What is the cache's is freed,
// also if its name has ended and its core has not; then it panics if there was more.
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
