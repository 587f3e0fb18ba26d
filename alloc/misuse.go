package alloc

import (
	"fmt"
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// This file finds calls that are a user's mistake, and says what is wrong with
// them: a panic for the caller's own, a count and a line in the log for damage
// that somebody else has done.

// handOut is the last thing that happens to an object before the user has it.
func (k *core) handOut(obj unsafe.Pointer) unsafe.Pointer {
	if invariants.Enabled {
		if p, i, exact := k.find(obj); !exact || !k.setLive(p, i, true) {
			panic(fmt.Sprintf("slabfs: cache %q: object %p is handed out twice", k.name, obj))
		}
	}
	return obj
}

// mustOwn is the first thing that happens to an object that the user frees: it
// panics unless the object's page belongs to the cache.
//
// Preconditions: no lock is held.
func (k *core) mustOwn(c *Cache, obj unsafe.Pointer) {
	if !k.owns(obj) {
		c.panicForeign(obj)
	}
	if c.dead.Load() {
		c.panicDead("Free")
	}
	if invariants.Enabled {
		if _, _, exact := k.find(obj); !exact {
			panic(fmt.Sprintf("slabfs: cache %q: Free of %p, which points into an object", c.name, obj))
		}
	}
}

// owns reports whether an address lies in a slab of the core.
func (k *core) owns(obj unsafe.Pointer) bool {
	p, ok := pages.Of(obj)
	return ok && pages.Owner(p) == k.number
}

// takeBack panics unless the object is live, which it is not from here on. It is
// for invariants builds.
//
// Preconditions: no lock is held; mustOwn was content.
func (k *core) takeBack(c *Cache, obj unsafe.Pointer) {
	if p, i, _ := k.find(obj); !k.setLive(p, i, false) {
		panic(fmt.Sprintf("slabfs: cache %q: Free of %p, which is free already", c.name, obj))
	}
}

// takeBackAll is takeBack for all objects or none.
func (k *core) takeBackAll(c *Cache, objs []unsafe.Pointer) {
	done := 0
	defer func() {
		if done < len(objs) {
			for _, obj := range objs[:done] {
				p, i, _ := k.find(obj)
				k.setLive(p, i, true)
			}
		}
	}()
	for ; done < len(objs); done++ {
		k.takeBack(c, objs[done])
	}
}

// panicNil is what becomes of a Free of nil.
func (c *Cache) panicNil(op string) {
	panic(fmt.Sprintf("slabfs: cache %q: %s of nil: did Alloc return nil at the limit?", c.name, op))
}

// panicForeign is what becomes of a Free of what lies in no slab of the cache.
func (c *Cache) panicForeign(obj unsafe.Pointer) {
	p, ok := pages.Of(obj)
	if ok {
		c.mustLive("Free")
	}
	switch {
	case obj == nil:
		c.panicNil("Free")
	case c.usersize != 0: // FreeBytes leaves this check to its cache
		panic(c.core.a.describeBytes(obj, int(c.usersize)))
	case !ok:
		panic(fmt.Sprintf("slabfs: cache %q: Free of %p, which no allocator handed out", c.name, obj))
	default:
		panic(fmt.Sprintf("slabfs: cache %q: Free of %p, which %s", c.name, obj, c.core.a.describeOwner(pages.Owner(p))))
	}
}

func (a *Allocator) describeOwner(number uint32) string {
	switch number {
	case 0:
		return "no cache holds now"
	case a.large, a.largeRest:
		return "lies in whole pages that Bytes returned"
	}
	return fmt.Sprintf("belongs to another cache (number %d)", number)
}

// damaged counts objects that could not go back to their slab: some user's
// mistake, but not the caller's. reportDamage follows when no lock is held.
func (k *core) damaged(n int) {
	if n == 0 {
		return
	}
	k.a.damage.Add(uint64(n))
	k.unreported.Add(int64(n))
}

// reportDamage logs what was counted since the last report.
//
// Preconditions: no lock is held: the logger is the user's.
func (k *core) reportDamage() {
	if k.unreported.Load() == 0 {
		return
	}
	if n := k.unreported.Swap(0); n > 0 {
		k.a.log.Error("slabfs: objects were freed twice, or by an address into them; build with -tags slabfs_invariants to find where",
			"cache", k.name, "objects", n)
	}
}

// CheckReleased counts a use of a cache after its release. Shows and stores call it when they end:
// a drain that works never lets them see one.
func (c *Cache) CheckReleased() {
	if c.core.released.Load() {
		c.core.a.misuse.Add(1)
		c.core.a.log.Error("slabfs: a released cache is in use", "cache", c.name)
	}
}

// mustLive panics if the handle was destroyed.
func (c *Cache) mustLive(op string) {
	if c.dead.Load() {
		c.panicDead(op)
	}
}

// mustBeStore is mustLive for what stores do: they act on the handle of the directory, which
// may die under one. The handle of a name that shared must not change what it shared.
func (c *Cache) mustBeStore(op string) {
	if c != c.core.root {
		c.mustLive(op)
	}
}

func (c *Cache) panicDead(op string) {
	panic(fmt.Sprintf("slabfs: %s on cache %q after its Destroy", op, c.name))
}
