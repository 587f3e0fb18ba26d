package alloc

import (
	"errors"
	"fmt"
	"slices"

	"slabfs/internal/cpu"
	"slabfs/internal/fault"
	"slabfs/internal/percpu"
)

// Destroy ends the cache. When it returns nil, no tree shows it, no show or store of
// it runs, its memory is given back and its name can be used again.
//
// ErrBusy: objects are live; nothing has changed, and the cache works on. It
// panics if the cache was destroyed before, also by its name. It must not be called
// from a store of the cache's own files, or from a Publisher for this cache.
func (c *Cache) Destroy() error {
	err := c.a().destroy(func() (*Cache, error) {
		if c.dead.Load() {
			return nil, errDead
		}
		return c, nil
	})
	if errors.Is(err, errDead) {
		c.panicDead("Destroy")
	}
	return err
}

func (c *Cache) a() *Allocator { return c.core.a }

var errDead = errors.New("the handle is dead")

// DestroyName is what echo NAME > delete_cache does: Destroy for caches that the
// program made with ShellDelete.
//
// Errors: ErrNotExist, ErrPermission, ErrBusy.
func (a *Allocator) DestroyName(name string) error {
	return a.destroy(func() (*Cache, error) {
		c := a.names[name]
		switch {
		case c == nil || c.dead.Load():
			return nil, fmt.Errorf("destroy cache %q: %w", name, ErrNotExist)
		case !c.shellDelete:
			return nil, fmt.Errorf("destroy cache %q: %w", name, ErrPermission)
		}
		return c, nil
	})
}

// destroy ends the cache that find returns, which runs under slab_mutex and runs
// again whenever destroy had to wait without it.
//
// The order is that of Linux since 2022: what drains active references holds no
// lock (docs/locking.md). The steps:
//
//	shut down   under the locks: close the sheaves, drain, count; dead from here on
//	unlink      no lock held: out of each tree, drain active references, notify
//	free name   a create of the same name finds no trace of the old one
//	release     area and control data: nobody can be looking at them
func (a *Allocator) destroy(find func() (*Cache, error)) error {
	for {
		a.hotplug.RLock()
		a.mu.Lock()
		c, err := find()
		if err != nil {
			a.mu.Unlock()
			a.hotplug.RUnlock()
			return err
		}
		if idle := c.publishes.wait(); idle != nil { // a publish and an unlink never overtake each other
			a.mu.Unlock()
			a.hotplug.RUnlock()
			<-idle
			continue
		}
		return a.destroyLocked(c)
	}
}

// destroyLocked releases both locks.
//
// Preconditions: the hotplug lock is held for reading, and a.mu; c is not dead,
// and no publish of it is booked.
func (a *Allocator) destroyLocked(c *Cache) error {
	k := c.core
	defer k.reportDamage()
	if live := k.shutDown(c); live > 0 {
		a.mu.Unlock()
		a.hotplug.RUnlock()
		return fmt.Errorf("destroy cache %q: %d objects are in use: %w", c.name, live, ErrBusy)
	}
	a.remove(c)
	trees := a.bookUnlinks(c)
	a.under.add(1)
	unlink := func() { a.unlink(c, trees) }
	if fault.UnlinkUnderLocks || fault.NotifyUnderLocks {
		unlink = a.unlinkLocked(c, trees)
	}
	a.mu.Unlock()
	a.hotplug.RUnlock()

	k.discardAll()
	if fault.FreeBeforeDrain {
		k.release()
	}
	unlink()
	if !fault.FreeBeforeDrain {
		k.release()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under.done(1)
	return nil
}

// remove takes the cache off the list; its name stays reserved.
//
// Preconditions: a.mu is held.
func (a *Allocator) remove(c *Cache) {
	a.setCaches(slices.DeleteFunc(slices.Clone(a.caches), func(d *Cache) bool { return d == c }))
}

// shutDown makes the core and the handle dead if no object is live, or else
// changes nothing and returns how many are.
//
// Preconditions: the hotplug lock and slab_mutex are held; no other destroy of the core runs.
func (k *core) shutDown(c *Cache) (live int) {
	a := k.a
	a.flushLock.Lock()
	defer a.flushLock.Unlock()
	a.roomFor(k)
	k.lockCPUs()
	defer k.unlockCPUs()
	k.closeAreas()
	objs, kept := k.collect(a.flushBuf[:0])
	k.giveBack(objs, &kept)
	live = int(k.node.slabs.Load())*k.objects - int(k.node.free.Load())
	if live > 0 {
		k.reopenAreas()
		return live
	}
	k.dying = true
	c.dead.Store(true)
	return 0
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
// Preconditions: the core is dying and no tree shows it.
func (k *core) release() {
	var used cpu.Mask
	for n, pc := range k.cpus {
		if pc != nil && pc.open {
			used.Set(n)
			k.a.areas.Add(-int64(percpu.Bytes(k.sheafCap)))
		}
	}
	k.released.Store(true)
	percpu.FreePlace(k.place, k.sheafCap, used)
}
