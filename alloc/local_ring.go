package alloc

import (
	"slices"
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// A ring is a Local of any type.
//
// It is a ring and not a stack. Alloc and Free would both change the level of a
// stack, each would wait for the other's store, and a pair would take half as
// long again.
type ring struct {
	in, out uint8               // the slots from out up to in hold values; none if out == in
	slots   [256]unsafe.Pointer // 256, so that no index of a byte is out of range
	behind
}

// behind is what a ring has besides its slots.
type behind struct {
	// extra holds the values that Prefill took, and the values that Free
	// keeps for the promise of Prefill. Alloc uses them if the slots are
	// empty.
	extra []unsafe.Pointer

	// promised is at least the number of calls of Alloc that Prefill still
	// promises. Free keeps as many values in extra.
	promised int

	cache *Cache // not nil
}

// A Local is a ring.
var (
	_ [0]struct{} = [unsafe.Sizeof(Local[byte]{}) - unsafe.Sizeof(ring{})]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(Local[byte]{}.behind) - unsafe.Offsetof(ring{}.behind)]struct{}{}
)

// halfRing is how many values move at a time between the slots and extra or the
// cache.
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
		if !ok { // at the limit, or a constructor panicked, or the name was destroyed
			objs := r.extra[before:]
			r.extra = r.extra[:before]
			r.cache.freeLocal(objs)
		}
	}()
	for n > 0 {
		here := len(r.extra)
		r.extra = slices.Grow(r.extra, min(n, maxTake)) // in steps: n may need more memory than there is
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

// most returns how many objects fit into the memory limit, or into the address
// space if there is none.
func (k *core) most() int64 {
	bytes := pages.Reserved()
	if limit := k.a.limit.Load(); limit > 0 {
		bytes = min(bytes, limit)
	}
	return bytes / int64(k.size)
}

// takeBack marks objects as free for the invariants build. They are live again
// when Alloc returns them.
func (r *ring) takeBack(objs []unsafe.Pointer) {
	if invariants.Enabled {
		for _, obj := range objs {
			r.cache.core.takeBack(r.cache, obj)
		}
	}
}

// fill puts objects into empty slots.
func (r *ring) fill(objs []unsafe.Pointer) {
	for _, obj := range objs {
		r.slots[r.in] = obj
		r.in++
	}
}

// refill returns a value for Alloc, and fills slots as far as that needs no new
// slab.
//
// Preconditions: the slots are empty.
func (r *ring) refill() unsafe.Pointer {
	c, n := r.cache, len(r.extra)
	r.promised = max(min(r.promised, n)-1, 0) // the promised values are at hand, and this is one of them
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

// drain makes room after the value that Free has put into the last slot. If the
// value is nil, it panics. After a panic the value belongs to the caller of
// Free.
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

// giveAllBack is Local.Return.
func (r *ring) giveAllBack() {
	defer r.cache.freeLocal(r.extra)
	r.extra, r.promised = nil, 0
	var buf [255]unsafe.Pointer
	r.cache.freeLocal(r.oldest(buf[:r.in-r.out]))
}

// freeLocal is FreeBulk for values that a Local took. It frees the values that
// belong to the cache, and panics afterwards if there were others. It works
// after the name was destroyed, as long as the core lives.
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
