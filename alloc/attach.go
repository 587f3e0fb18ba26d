package alloc

import (
	"fmt"
	"slices"

	"slabfs/internal/lockdep"
)

// A Publisher makes caches visible somewhere, for instance as files. Its
// methods run with no lock held, on the goroutine that creates, destroys or
// attaches. They must not panic.
//
// A method that destroys the cache that it is called for, or a cache that
// shares its slabs, would wait for itself. Destroy returns ErrCallback then,
// and so may NewCache of a cache that shares its slabs. Publish and Unlink of
// one handle never overtake each other.
//
// A directory stands for slabs and sheaves. They have one name, or with
// Options.Merge an id and any number of names. For an id, both methods are
// called with a handle that has the id as its name: c.Name() == c.ID(). That
// handle works as long as there is a name, and ends with the last one. A name
// is then a link to the directory c.ID(), which is published before the name
// and unlinked after it.
type Publisher interface {
	// Publish makes a directory visible under its name, or a link to the
	// directory c.ID() if name is not c.ID(). If Publish fails, so does
	// NewCache.
	Publish(c *Cache, name string) error

	// Unlink makes the directory or link invisible. When it returns, nobody
	// uses c through the Publisher, now or later.
	Unlink(c *Cache, name string)
}

// A tree is an attached Publisher.
//
// Protection of fields: I, constant; S, slab_mutex.
type tree struct {
	publisher Publisher // I
	busy      bookings  // S: publishes and unlinks that have not ended
	detached  bool      // S
}

func (t *tree) publish(c *Cache) error {
	defer lockdep.Callback(c.core.root)()
	return t.publisher.Publish(c, c.name)
}

func (t *tree) unlink(c *Cache) {
	defer lockdep.Callback(c.core.root)()
	t.publisher.Unlink(c, c.name) // step: unlink
}

// Attach publishes all caches, and from then on each cache that is made, until
// detach is called. If Publish fails during Attach, the failure is logged and
// the cache is absent from the Publisher. If a directory fails, all of its
// names are absent.
//
// detach waits until no method of the Publisher runs, and none is called
// afterwards. It unlinks nothing, and may be called twice. It panics if it is
// called from a callback, because it might wait for that callback.
func (a *Allocator) Attach(p Publisher) (detach func()) {
	t := &tree{publisher: p}
	a.mu.Lock()
	a.trees = append(a.trees, t)
	var list []*Cache // each directory is followed by its links
	for _, k := range *a.cores.Load() {
		if k.id != "" {
			list = append(list, k.root)
		}
		list = append(list, k.handles...)
	}
	for _, c := range list {
		c.publishes.add(1)
		t.busy.add(1)
	}
	a.mu.Unlock()
	there := false // whether the last directory was published
	for _, c := range list {
		dead := c.dead.Load() // NewCache failed in another tree
		if c == c.core.root {
			there = !dead
		}
		if dead || !there {
			a.endPublish(c, t, false)
			continue
		}
		err := t.publish(c)
		if err != nil {
			a.log.Error("slabfs: a cache is absent from a tree", "cache", c.name, "error", err)
			there = c != c.core.root
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
	for t.busy.n > 0 {
		a.unbooked.Wait()
	}
	a.mu.Unlock()
}

// A booking is one unlink that is still to be done.
type booking struct {
	c *Cache
	t *tree
}

// bookUnlinks books an unlink of each handle in each tree that shows it.
//
// Preconditions: a.mu is held; no publish of the handles is booked by others.
func (a *Allocator) bookUnlinks(cs []*Cache) []booking {
	var list []booking
	for _, c := range cs {
		for _, t := range c.published {
			if !t.detached {
				t.busy.add(1)
				list = append(list, booking{c, t})
			}
		}
	}
	return list
}

// checkUnlinked counts a release that comes before the end of an unlink.
func (k *core) checkUnlinked() {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	if k.unlinks.n > 0 {
		k.a.early.Add(1)
	}
}

var errInCallback = fmt.Errorf("%w: do it from another goroutine", ErrCallback)
