package alloc

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"
	"weak"

	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

// This file finds calls that are a user's mistake, and says what is wrong with
// them. A call that is itself the mistake panics. Damage by an earlier call is
// counted and logged.

// handOut is the last step before the user gets an object.
func (k *core) handOut(obj unsafe.Pointer) unsafe.Pointer {
	if invariants.Enabled {
		if p, i, exact := k.find(obj); !exact || !k.setLive(p, i, true) {
			panic(fmt.Sprintf("slabfs: cache %q: object %p is handed out twice", k.name, obj))
		}
	}
	return obj
}

// mustOwn is the first step for an object that the user frees. It panics unless
// the object's page belongs to the cache.
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
			c.panicFree(obj, k.describeInexact(obj))
		}
	}
}

// owns reports whether an address lies in a slab of the core.
func (k *core) owns(obj unsafe.Pointer) bool {
	p, ok := pages.Of(obj)
	return ok && pages.Owner(p) == k.number
}

// takeBack panics unless the object is live, and marks it as free. It is for
// invariants builds.
//
// Preconditions: no lock is held; mustOwn has accepted the object.
func (k *core) takeBack(c *Cache, obj unsafe.Pointer) {
	if p, i, _ := k.find(obj); !k.setLive(p, i, false) {
		c.panicFree(obj, "is free already")
	}
}

// takeBackAll is takeBack for all objects, or for none if it panics.
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

// panicNil panics for a Free of nil.
func (c *Cache) panicNil() {
	panic(fmt.Sprintf("slabfs: cache %q: Free of nil: did Alloc return nil at the limit?", c.name))
}

func (c *Cache) panicFree(obj unsafe.Pointer, why string) {
	panic(fmt.Sprintf("slabfs: cache %q: Free of %p, which %s", c.name, obj, why))
}

// panicForeign panics for a Free of an address that lies in no slab of the
// cache.
//
// Preconditions: no lock is held.
func (c *Cache) panicForeign(obj unsafe.Pointer) {
	p, ok := pages.Of(obj)
	if ok {
		c.mustLive("Free")
	}
	switch {
	case obj == nil:
		c.panicNil()
	case !ok:
		c.panicFree(obj, "no allocator handed out")
	default:
		c.panicFree(obj, c.core.a.describeOwner(pages.Owner(p)))
	}
}

// panicNotTaken panics for a call that freed objs, if n of them could not go
// back to their slabs.
//
// Preconditions: no lock is held; the objects lie in slabs of the core.
func (c *Cache) panicNotTaken(objs []unsafe.Pointer, n int) {
	named := make(map[unsafe.Pointer]bool, len(objs))
	for _, obj := range objs {
		if _, _, exact := c.core.find(obj); !exact {
			c.panicFree(obj, c.core.describeInexact(obj))
		}
		if named[obj] {
			c.panicFree(obj, "is named twice in one call")
		}
		named[obj] = true
	}
	if len(objs) == 1 {
		c.panicFree(objs[0], "is free already")
	}
	panic(fmt.Sprintf("slabfs: cache %q: Free of %d objects, of which %d are free already", c.name, len(objs), n))
}

// describeInexact says where an address lies if no object of the core begins
// there.
func (k *core) describeInexact(obj unsafe.Pointer) string {
	off := uint32(uintptr(obj) - uintptr(pages.At(k.slabOf(obj))))
	if i := off / k.size; int(i) < k.objects {
		return fmt.Sprintf("points into an object, %d bytes behind its begin", off-i*k.size)
	}
	return "lies behind the last object of its slab"
}

// inLocals follows a count of live objects in a message, and says that some may
// be in Locals.
func (k *core) inLocals() string {
	if k.locals.Load() {
		return ", counting those in Locals, which Return gives back"
	}
	return ""
}

// describeOwner says which cache or allocator owns a page.
//
// Preconditions: no lock is held.
func (a *Allocator) describeOwner(number uint32) string {
	if number == 0 {
		return "no cache holds now, since it was freed or its cache was destroyed"
	}
	for _, b := range allocators() {
		of := ""
		if b != a {
			of = " of another allocator"
		}
		if number == b.large || number == b.largeRest {
			return "lies in whole pages that Bytes" + of + " returned"
		}
		if name := b.nameOf(number); name != "" {
			return fmt.Sprintf("belongs to another cache, %q%s", name, of)
		}
	}
	return "belonged to another cache, which was destroyed"
}

// nameOf returns the name of the cache with that number, even while it is being
// destroyed. If several names share the number, it returns the oldest. If there
// is no such cache, it returns "".
func (a *Allocator) nameOf(number uint32) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.names {
		switch {
		case c.number != number:
		case len(c.core.handles) > 0:
			return c.core.handles[0].name
		default:
			return c.name
		}
	}
	return ""
}

// every lists the allocators of the process, so that a message can name a cache
// of another allocator. It does not keep them alive.
var every atomic.Pointer[[]weak.Pointer[Allocator]]

// enlist adds an allocator to the list.
func (a *Allocator) enlist() {
	for {
		old := every.Load()
		list := []weak.Pointer[Allocator]{weak.Make(a)}
		for _, b := range allocators() {
			list = append(list, weak.Make(b))
		}
		if every.CompareAndSwap(old, &list) {
			return
		}
	}
}

// allocators returns the allocators of the process. Some of them may be closed.
func allocators() (list []*Allocator) {
	if all := every.Load(); all != nil {
		for _, w := range *all {
			if a := w.Value(); a != nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// damaged counts objects that could not go back to their slab. That is the
// mistake of some user, but not of the caller. reportDamage follows when no
// lock is held.
func (k *core) damaged(n int) {
	if n == 0 {
		return
	}
	k.a.damage.Add(uint64(n))
	k.unreported.Add(int64(n))
}

// reportDamage logs the damage that was counted since the last report.
//
// Preconditions: no lock is held, because the logger is the user's.
func (k *core) reportDamage() {
	if k.unreported.Load() == 0 {
		return
	}
	if n := k.unreported.Swap(0); n > 0 {
		k.a.log.Error("slabfs: objects were freed twice, or by an address into them; build with -tags slabfs_invariants to find where",
			"cache", k.name, "objects", n)
	}
}

// CheckReleased counts a use of a cache after its release; see
// Allocator.Misuse. Shows and stores call it when they end. If the drain of
// active references works, they never see a released cache.
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

// mustBeStore is mustLive for calls that a store may make. A store uses the
// handle of the directory. That handle may die during the store, and the call
// then does nothing. For everybody else a dead handle panics: the handle of a
// name that is gone must not change a core that it shared.
func (c *Cache) mustBeStore(op string) {
	if c.dead.Load() && (c != c.core.root || !lockdep.InCallbackAbout(c)) {
		c.panicDead(op)
	}
}

// panicDead panics for a call on a handle that was destroyed.
//
// Preconditions: no lock is held.
func (c *Cache) panicDead(op string) {
	if a := c.core.a; c.usersize != 0 && a.isClosed() { // callers of Bytes and FreeBytes know no cache
		panic(fmt.Sprintf("slabfs: %s after Close of the allocator that was made at %s", op, a.madeAt()))
	}
	panic(fmt.Sprintf("slabfs: %s on cache %q after its Destroy", op, c.name))
}

// isClosed reports whether a Close has ended the allocator, or is about to.
func (a *Allocator) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closing
}

// madeAt returns the file and line that called New.
func (a *Allocator) madeAt() string {
	frame, _ := runtime.CallersFrames(a.made[:]).Next()
	return fmt.Sprintf("%s:%d", frame.File, frame.Line)
}
