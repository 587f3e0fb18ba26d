package alloc

import (
	"fmt"
	"math/bits"
	"slices"

	"slabfs/internal/cpu"
	"slabfs/internal/fault"
	"slabfs/internal/pages"
)

// maxName bounds a name in bytes, so that paths of files stay below what tools take.
const maxName = 60

// NewCache returns a cache for objects of size bytes, 1 to 4 MiB, under a name
// of 1 to 60 of the characters A-Z a-z 0-9 _ . -, not beginning with a dot. When
// it returns, the cache is in every attached tree.
//
// Errors: ErrExist while the name is taken, also by a cache that is being made
// or destroyed; ErrInvalid; ErrNotBuilt for TypesafeByRCU; ErrClosed; ErrNoMemory
// if there is no room for its sheaves; what a tree's Publish returned.
func (a *Allocator) NewCache(name string, size int, o CacheOptions) (*Cache, error) {
	return a.newCache(name, size, o, 0)
}

func (a *Allocator) newCache(name string, size int, o CacheOptions, usersize uint32) (*Cache, error) {
	if err := checkCache(name, size, o); err != nil {
		return nil, fmt.Errorf("create cache %q: %w", name, err)
	}
	l := newLayout(size, o.Align, o.Flags, cpu.Present().Count())
	c := &Cache{name: name, shellDelete: o.ShellDelete, usersize: usersize, making: true}
	trees, err := a.enter(c, l, o)
	if err == nil {
		err = a.publish(c, trees)
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
	case o.Flags&^allFlags != 0:
		return fmt.Errorf("flags %#x are unknown: %w", uint32(o.Flags&^allFlags), ErrInvalid)
	case o.Flags&TypesafeByRCU != 0:
		return fmt.Errorf("flag typesafe_by_rcu: %w", ErrNotBuilt)
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

// enter reserves the name, puts the cache on the list and books its publishing
// in the trees that it returns.
func (a *Allocator) enter(c *Cache, l layout, o CacheOptions) ([]*tree, error) {
	a.hotplug.RLock()
	defer a.hotplug.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closing {
		return nil, ErrClosed
	}
	if old := a.names[c.name]; old != nil {
		if old.dead.Load() {
			a.refused.Add(1)
			return nil, fmt.Errorf("%w: its old cache is being destroyed; try again", ErrExist)
		}
		return nil, ErrExist
	}
	k, err := a.newCore(c.name, l, o)
	if err != nil {
		return nil, err
	}
	c.core, c.number, c.area = k, k.number, k.sequenceArea()
	a.names[c.name] = c
	a.setCaches(append(a.caches, c))
	trees := slices.Clone(a.trees)
	c.publishes.add(len(trees) + 1) // one for NewCache itself
	for _, t := range trees {
		t.busy.add(1)
	}
	a.under.add(1)
	if fault.PublishUnderSlabMutex {
		for _, t := range trees {
			_ = t.publisher.Publish(c, c.name)
		}
	}
	return trees, nil
}

// setCaches replaces the list of caches.
//
// Preconditions: a.mu is held.
func (a *Allocator) setCaches(list []*Cache) {
	a.caches = list
	cores := make([]*core, len(list))
	for i, c := range list {
		cores[i] = c.core
	}
	a.cores.Store(&cores)
}

// publish makes the cache known to the trees in which its publishing is booked.
// If one of them fails, the cache is gone from all of them when it returns.
//
// Preconditions: no lock is held.
func (a *Allocator) publish(c *Cache, trees []*tree) error {
	var failed error
	for _, t := range trees {
		err := failed
		if err == nil && !fault.PublishUnderSlabMutex {
			err = t.publish(c)
		}
		if err != nil {
			failed = err
		}
		a.endPublish(c, t, err == nil)
	}
	if failed != nil {
		a.withdraw(c)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if failed == nil {
		c.making = false
		c.publishes.done(1)
	}
	a.under.done(1)
	return failed
}

// endPublish ends one booking of a publish.
func (a *Allocator) endPublish(c *Cache, t *tree, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok {
		c.published = append(slices.DeleteFunc(c.published, func(u *tree) bool { return u.detached }), t)
	}
	c.publishes.done(1)
	t.busy.done(1)
}

// withdraw takes back a cache whose publishing failed: nobody but the trees has
// seen it. It ends NewCache's own booking, which kept destroys away until the handle was dead.
//
// Preconditions: no lock is held.
func (a *Allocator) withdraw(c *Cache) {
	k := c.core
	defer k.reportDamage()
	a.hotplug.RLock()
	a.mu.Lock()
	err := a.shutDown([]*Cache{c})
	c.kill() // whatever a Publisher did with it
	a.remove(c)
	c.publishes.done(1)
	a.mu.Unlock()
	a.hotplug.RUnlock()
	if err == nil {
		k.discardAll()
	}

	a.mu.Lock()
	for idle := c.publishes.wait(); idle != nil; idle = c.publishes.wait() { // of trees that attached meanwhile
		a.mu.Unlock()
		<-idle
		a.mu.Lock()
	}
	trees := a.bookUnlinks(c)
	a.mu.Unlock()
	a.unlink(c, trees)
	if err != nil {
		a.log.Error("slabfs: a cache could not be published, but has live objects: its memory is lost", "cache", c.name, "objects", c.Stats().Objects, "error", err)
		return
	}
	k.release()
}
