package alloc

import (
	"fmt"
	"math/bits"
	"slices"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
	"slabfs/internal/percpu"
)

// maxName is the longest name in bytes, so that paths of files stay below the
// limits of tools.
const maxName = 60

// NewCache returns a cache for objects of size bytes, 1 to 4 MiB. Its name has
// 1 to 60 of the characters A-Z a-z 0-9 _ . - and does not begin with a dot.
// When NewCache returns, the cache is in every attached tree. With
// Options.Merge it shares slabs and sheaves with another cache of its size if
// both may; see Cache.
//
// Errors:
//
//   - ErrExist: the name is taken, perhaps by a cache that is being made or
//     destroyed.
//   - ErrInvalid: the name, the size or an option is out of range.
//   - ErrClosed: Close has destroyed all caches.
//   - ErrNoMemory: there is no room for the cache's sheaves.
//   - ErrCallback: a show, a store or a Publisher called NewCache, and the
//     cache would share slabs with the very cache that is coming or going
//     there.
//   - The error of a Publisher.
func (a *Allocator) NewCache(name string, size int, o CacheOptions) (*Cache, error) {
	return a.newCache(name, size, o, 0)
}

func (a *Allocator) newCache(name string, size int, o CacheOptions, usersize uint32) (*Cache, error) {
	if err := checkCache(name, size, o); err != nil {
		return nil, fmt.Errorf("create cache %q: %w", name, err)
	}
	l := newLayout(size, o.Align, o.Flags, cpu.Present().Count())
	if o.SheafCapacity > 0 {
		l.sheafMax = o.SheafCapacity
	}
	c := &Cache{name: name, shellDelete: o.ShellDelete, objectSize: uint32(size), usersize: usersize, making: true}
	made, trees, err := a.enter(c, l, o)
	if err == nil {
		err = a.publish(made, trees)
	}
	if err != nil {
		return nil, fmt.Errorf("create cache %q: %w", name, err)
	}
	return c, nil
}

func checkCache(name string, size int, o CacheOptions) error {
	switch {
	case !validName(name):
		return fmt.Errorf("the name must be 1 to %d of A-Z a-z 0-9 _ . - and not begin with a dot: %w", maxName, ErrInvalid)
	case size < 1 || size > maxSize:
		return fmt.Errorf("size of %d bytes, want 1 to %d: %w", size, maxSize, ErrInvalid)
	case o.Align < 0 || o.Align > pages.Size || bits.OnesCount(uint(o.Align)) > 1:
		return fmt.Errorf("alignment to %d bytes, want a power of two up to %d: %w", o.Align, pages.Size, ErrInvalid)
	case o.SheafCapacity < 0 || o.SheafCapacity > percpu.MaxCap:
		return fmt.Errorf("sheaves of %d objects, want 1 to %d, or 0 for those of its size: %w", o.SheafCapacity, percpu.MaxCap, ErrInvalid)
	case o.Flags&^allFlags != 0:
		return fmt.Errorf("flags %#x are unknown: %w", uint32(o.Flags&^allFlags), ErrInvalid)
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > maxName || name[0] == '.' {
		return false
	}
	for _, r := range []byte(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
		default:
			return false
		}
	}
	return true
}

// enter reserves the name, puts the cache on the list, and books its publishing
// in the trees that it returns. made is the cache. If the cache's directory has
// a handle of its own and is new, that handle comes before it.
func (a *Allocator) enter(c *Cache, l layout, o CacheOptions) (made []*Cache, trees []*tree, err error) {
	id := a.idOf(l, o, c.usersize)
	for {
		a.hotplug.RLock()
		a.mu.Lock()
		made, trees, wait, err := a.enterLocked(c, id, l, o)
		a.hotplug.RUnlock()
		if wait {
			a.unbooked.Wait()
		}
		a.mu.Unlock()
		if !wait {
			return made, trees, err
		}
	}
}

// enterLocked is one attempt of enter. If wait is true, nothing has happened,
// and the next attempt makes sense when some bookings have ended.
//
// Preconditions: the hotplug lock is held for reading, and a.mu.
func (a *Allocator) enterLocked(c *Cache, id string, l layout, o CacheOptions) (made []*Cache, trees []*tree, wait bool, err error) {
	if a.closing {
		return nil, nil, false, ErrClosed
	}
	if a.deciding.n > 0 && !lockdep.InCallback() { // a callback may be what Close waits for
		return nil, nil, true, nil
	}
	if old := a.names[c.name]; old != nil {
		if old.dead.Load() {
			a.refused.Add(1)
			return nil, nil, false, fmt.Errorf("%w: its old cache is being destroyed; try again", ErrExist)
		}
		return nil, nil, false, ErrExist
	}
	k := a.ids[id]
	if k == nil {
		if k, err = a.newCore(c, id, l, o); err != nil {
			return nil, nil, false, err
		}
		trees = slices.Clone(a.trees)
		if id != "" {
			a.ids[id] = k
			made = append(made, k.root)
		}
	} else {
		// A link needs its directory. A new directory needs the name of
		// the old one.
		wait = k.root.publishes.n > 0 || k.root.dead.Load() && k.unlinks.n > 0
		if wait && lockdep.InCallbackAbout(k.root) {
			return nil, nil, false, errInCallback
		}
		if wait {
			return nil, nil, true, nil
		}
		for _, t := range a.trees {
			if slices.Contains(k.root.published, t) {
				trees = append(trees, t)
			}
		}
	}
	k.serve(c)
	k.setHandles(append(k.handles, c))
	a.names[c.name] = c
	a.setCaches(append(a.caches, c))
	made = append(made, c)
	for _, c := range made {
		c.publishes.add(len(trees) + 1) // one for NewCache itself
		for _, t := range trees {
			t.busy.add(1)
		}
	}
	a.under.add(1)
	if a.publishesLocked {
		publishLocked(made, trees)
	}
	return made, trees, false, nil
}

// setCaches replaces the list of caches.
//
// Preconditions: a.mu is held.
func (a *Allocator) setCaches(list []*Cache) {
	a.caches = list
	cores := make([]*core, 0, len(list))
	for _, c := range list {
		if c == c.core.handles[0] {
			cores = append(cores, c.core)
		}
	}
	a.cores.Store(&cores)
}

// publish publishes the handles that enter has made, in the trees that enter
// has booked. If one tree fails, the handles are gone from all trees when
// publish returns.
//
// Preconditions: no lock is held.
func (a *Allocator) publish(made []*Cache, trees []*tree) error {
	var failed error
	for _, t := range trees {
		for _, c := range made {
			if failed == nil && !a.publishesLocked {
				failed = t.publish(c)
			}
			a.endPublish(c, t, failed == nil)
		}
	}
	if failed != nil {
		a.withdraw(made)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if failed == nil {
		for _, c := range made {
			c.making = false
			a.unbook(&c.publishes, 1)
		}
	}
	a.unbook(&a.under, 1)
	return failed
}

// endPublish ends one booking of a publish.
func (a *Allocator) endPublish(c *Cache, t *tree, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok {
		c.published = append(slices.DeleteFunc(c.published, func(u *tree) bool { return u.detached }), t)
	}
	a.unbook(&c.publishes, 1)
	a.unbook(&t.busy, 1)
}

// withdraw undoes enter after publishing failed. Only the trees have seen the
// handles. NewCache's own bookings have kept destroys away from the handles,
// and other creates away from a new core. withdraw ends these bookings once the
// handles are dead.
//
// Preconditions: no lock is held.
func (a *Allocator) withdraw(made []*Cache) {
	k := made[0].core
	fresh := made[0] == k.root // otherwise it is one more name of a core
	defer k.reportDamage()
	a.hotplug.RLock()
	a.mu.Lock()
	var err error
	if fresh {
		err = a.shutDown([]*core{k})
	}
	for _, c := range made {
		c.kill() // a Publisher may have used it
	}
	a.remove(made)
	for _, c := range made {
		a.unbook(&c.publishes, 1)
	}
	a.mu.Unlock()
	a.hotplug.RUnlock()
	if fresh && err == nil {
		k.discardAll()
	}

	slices.Reverse(made) // links first
	a.mu.Lock()
	for _, c := range made {
		for c.publishes.n > 0 { // of trees that have attached since
			a.unbooked.Wait()
		}
	}
	d := &departure{a: a, cs: made, booked: a.bookUnlinks(made)}
	a.mu.Unlock()
	d.unlink()
	d.freeNames()
	switch {
	case err != nil:
		a.log.Error("slabfs: a cache could not be published, but has live objects: its memory is lost", "cache", k.name, "objects", k.root.Stats().Objects, "error", err)
	case fresh:
		d.cores = []*core{k}
		d.release()
	}
}
