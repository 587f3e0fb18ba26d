package alloc

import (
	"fmt"
	"slices"

	"slabfs/internal/lockdep"
)

// A Publisher makes caches visible somewhere, for instance as files. Its methods
// run with no lock held, on the goroutine that creates, destroys or attaches;
// they must not destroy the cache that they are called for, nor panic. Publish
// and Unlink of one cache never overtake each other.
type Publisher interface {
	// Publish makes a cache visible under its name. If it fails, so does NewCache.
	Publish(c *Cache, name string) error

	// Unlink makes it invisible. When it returns, nobody uses c through the
	// publisher any more, and none will.
	Unlink(c *Cache, name string)
}

// A tree is an attached Publisher.
//
// Protection of fields: I, constant; S, slab_mutex.
type tree struct {
	publisher Publisher // I
	busy      bookings  // S: publishes and unlinks under way
	detached  bool      // S
}

func (t *tree) publish(c *Cache) error {
	defer lockdep.Callback()()
	return t.publisher.Publish(c, c.name)
}

func (t *tree) unlink(c *Cache) {
	defer lockdep.Callback()()
	t.publisher.Unlink(c, c.name)
}

// Attach publishes all caches, and from now on each that is made, until detach
// is called. A cache whose Publish fails now is logged, and is absent there.
//
// detach waits until no call of the Publisher is under way, and none comes after
// it; it unlinks nothing. It may be called twice. It panics when it is called
// from a callback, which it might wait for.
func (a *Allocator) Attach(p Publisher) (detach func()) {
	t := &tree{publisher: p}
	a.mu.Lock()
	a.trees = append(a.trees, t)
	list := slices.Clone(a.caches)
	for _, c := range list {
		c.publishes.add(1)
		t.busy.add(1)
	}
	a.mu.Unlock()
	for _, c := range list {
		if c.dead.Load() { // its create failed in another tree
			a.endPublish(c, t, false)
			continue
		}
		err := t.publish(c)
		if err != nil {
			a.log.Error("slabfs: a cache is absent from a tree", "cache", c.name, "error", err)
		}
		a.endPublish(c, t, err == nil)
	}
	return func() { a.detach(t) }
}

func (a *Allocator) detach(t *tree) {
	if lockdep.InCallback() {
		panic("slabfs: detach called from a callback, for which it would wait")
	}
	a.mu.Lock()
	t.detached = true
	a.trees = slices.DeleteFunc(a.trees, func(u *tree) bool { return u == t })
	for {
		idle := t.busy.wait()
		if idle == nil {
			break
		}
		a.mu.Unlock()
		<-idle
		a.mu.Lock()
	}
	a.mu.Unlock()
}

// bookUnlinks books an unlink in each tree that shows the cache and returns those trees.
//
// Preconditions: a.mu is held; no publish of the cache is booked by others.
func (a *Allocator) bookUnlinks(c *Cache) []*tree {
	var trees []*tree
	for _, t := range c.published {
		if !t.detached {
			t.busy.add(1)
			trees = append(trees, t)
		}
	}
	return trees
}

// unlink makes the cache invisible in the trees where that is booked, and frees its name.
//
// Preconditions: no lock is held.
func (a *Allocator) unlink(c *Cache, trees []*tree) {
	for _, t := range trees {
		t.unlink(c)
	}
	a.endUnlink(c, trees)
}

// endUnlink ends the bookings of unlink.
func (a *Allocator) endUnlink(c *Cache, trees []*tree) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range trees {
		t.busy.done(1)
	}
	delete(a.names, c.name)
}

var errInCallback = fmt.Errorf("%w: do it from another goroutine", ErrCallback)
