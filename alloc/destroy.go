package alloc

import (
	"errors"
	"fmt"
	"slices"

	"slabfs/internal/cpu"
	"slabfs/internal/fault"
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// Destroy ends the cache. When it returns nil, no tree shows it, no show or store of
// it runs, its memory is given back and its name can be used again.
//
// ErrBusy: objects are live; nothing has changed, and the cache works on. It
// panics if the cache was destroyed before, also by its name. It must not be called
// from a store of the cache's own files, or from a Publisher for this cache.
func (c *Cache) Destroy() error {
	err := c.core.a.destroy(c.find)
	if errors.Is(err, errDead) {
		c.panicDead("Destroy")
	}
	return err
}

// find is what destroy is called with where the handle is known.
func (c *Cache) find() ([]*Cache, error) {
	if c.dead.Load() {
		return nil, errDead
	}
	return []*Cache{c}, nil
}

var errDead = errors.New("the handle is dead")

// DestroyName is what echo NAME > delete_cache does: Destroy for caches that the
// program made with ShellDelete.
//
// Errors: ErrNotExist, ErrPermission, ErrBusy.
func (a *Allocator) DestroyName(name string) error {
	return a.destroy(func() ([]*Cache, error) {
		c := a.names[name]
		switch {
		case c == nil || c.dead.Load():
			return nil, fmt.Errorf("destroy cache %q: %w", name, ErrNotExist)
		case !c.shellDelete:
			return nil, fmt.Errorf("destroy cache %q: %w", name, ErrPermission)
		}
		return []*Cache{c}, nil
	})
}

// destroy ends the caches that find returns, all of them or none. find runs under
// slab_mutex, and again whenever destroy had to wait without it.
//
// The order is that of Linux since 2022: what drains active references holds no
// lock (docs/locking.md). The steps:
//
//	shut down   under the locks: close the sheaves, drain, count; dead from here on
//	unlink      no lock held: out of each tree, drain active references, notify
//	free name   a create of the same name finds no trace of the old one
//	release     area and control data: nobody can be looking at them
func (a *Allocator) destroy(find func() ([]*Cache, error)) error {
	for {
		a.hotplug.RLock()
		a.mu.Lock()
		cs, err := find()
		var idle <-chan struct{}
		for _, c := range cs { // a publish and an unlink never overtake each other
			if idle == nil {
				idle = c.publishes.wait()
			}
		}
		if err == nil && idle == nil {
			return a.destroyLocked(cs)
		}
		a.mu.Unlock()
		a.hotplug.RUnlock()
		if err != nil {
			return err
		}
		<-idle
	}
}

// destroyLocked releases both locks.
//
// Preconditions: the hotplug lock is held for reading, and a.mu; none of the
// caches is dead, and no publish of one is booked.
func (a *Allocator) destroyLocked(cs []*Cache) error {
	err := a.shutDown(cs)
	var finish []func()
	if err == nil {
		a.under.add(1)
		for _, c := range cs {
			finish = append(finish, a.leave(c))
		}
	}
	a.mu.Unlock()
	a.hotplug.RUnlock()

	for _, c := range cs {
		c.core.reportDamage()
	}
	if err != nil {
		return err
	}
	for _, f := range finish {
		f()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under.done(1)
	return nil
}

// leave takes a dead cache off the list and books its unlinks. The function that
// it returns does what remains of destroy, with no lock held.
//
// Preconditions: a.mu is held.
func (a *Allocator) leave(c *Cache) (finish func()) {
	k := c.core
	a.remove(c)
	trees := a.bookUnlinks(c)
	unlink := func() { a.unlink(c, trees) }
	if fault.UnlinkUnderLocks || fault.NotifyUnderLocks {
		unlink = a.unlinkLocked(c, trees)
	}
	return func() {
		k.discardAll()
		if fault.FreeBeforeDrain {
			k.release()
		}
		unlink()
		if !fault.FreeBeforeDrain {
			k.release()
		}
	}
}

// remove takes the cache off the list; its name stays reserved.
//
// Preconditions: a.mu is held.
func (a *Allocator) remove(c *Cache) {
	a.setCaches(slices.DeleteFunc(slices.Clone(a.caches), func(d *Cache) bool { return d == c }))
}

// shutDown makes the caches dead, handle and core, if no object of any is live,
// or else changes nothing and returns ErrBusy, or why the sheaves could not be closed. It holds the per-CPU locks of all of them, which
// only a holder of flush_lock may: everybody else holds one.
//
// Preconditions: the hotplug lock and slab_mutex are held; none of the caches is dead.
func (a *Allocator) shutDown(cs []*Cache) (err error) {
	a.flushLock.Lock()
	defer a.flushLock.Unlock()
	for _, c := range cs {
		a.roomFor(c.core)
		c.core.lockCPUs()
		defer c.core.unlockCPUs()
	}
	for _, c := range cs {
		k := c.core
		if err = k.closeAreas(); err != nil {
			err = fmt.Errorf("destroy cache %q: %w", c.name, err)
			break
		}
		objs, kept := k.collect(a.flushBuf[:0])
		k.giveBack(objs, &kept)
		if live := int(k.node.slabs.Load())*k.objects - int(k.node.free.Load()); live > 0 {
			err = fmt.Errorf("destroy cache %q: %d objects are in use: %w", c.name, live, ErrBusy)
			break
		}
	}
	for _, c := range cs {
		if err != nil {
			c.core.reopenAreas()
			continue
		}
		c.core.dying = true
		c.kill()
	}
	return err
}

// discardAll gives back every slab of a core that is dying: all of them are on the node's list.
//
// Preconditions: no lock is held.
func (k *core) discardAll() {
	var all slabList
	n := &k.node
	n.mu.Lock()
	for p := n.partial.head; p != 0; p = n.partial.head {
		k.removePartial(p)
		k.drop(p, &all)
	}
	n.mu.Unlock()
	k.discardSlabs(&all)
}

// release gives back what the core holds beside its slabs. The core itself is Go
// memory and stays readable, for the panics of those who still call it.
//
// It fences a second time: a sequence that was delayed since before the handle
// got the closed area still holds the old address, and would pop objects of the
// cache that gets the place next.
//
// Preconditions: the core is dying and no tree shows it.
func (k *core) release() {
	var used cpu.Mask
	for n, pc := range k.cpus {
		if pc != nil && pc.open.Load() {
			used.Set(n)
			k.a.areas.Add(-int64(percpu.Bytes(k.sheafCap)))
		}
	}
	k.released.Store(true)
	if k.seq && !fault.NoSecondFence && rseq.Fence() != nil {
		k.a.lostPlaces.Add(1) // a sequence may still hold its address: it is never used again
		return
	}
	percpu.FreePlace(k.place, k.sheafCap, used)
}
