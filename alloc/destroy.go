package alloc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"slabfs/internal/cpu"
	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// Destroy ends the cache. When it returns nil, no tree shows it, no show or store of
// it runs, its memory is given back and its name can be used again. The memory of a
// typesafe-by-RCU cache goes back after a grace period, for which Destroy does not wait.
//
// If other names share its core, only the handle and the name end: the objects live on,
// and can be freed through the others.
//
// ErrBusy: objects are live, and no other name shares the core; nothing has changed,
// and the cache works on. Objects in a Local are live until its Return. It panics if the cache was destroyed before, also by its
// name.
//
// ErrCallback: it was called from a show or a store of a file in the directory of the
// cache, or from a Publisher for it. Destroy would wait for its caller; nothing has
// changed. From those of another cache it may be called, as delete_cache does; but
// two stores that destroy each other's cache wait for each other.
//
// ErrPermission: the handle is a directory's, which a Publisher got.
func (c *Cache) Destroy() error {
	err := c.core.a.destroy(c.find, false)
	if errors.Is(err, errDead) {
		c.panicDead("Destroy")
	}
	return err
}

// find is what destroy is called with where the handle is known.
func (c *Cache) find() ([]*Cache, error) {
	switch {
	case c.dead.Load():
		return nil, errDead
	case c.isDirectory():
		return nil, fmt.Errorf("destroy cache %q: it ends with the last of its names: %w", c.name, ErrPermission)
	}
	return []*Cache{c}, nil
}

var errDead = errors.New("the handle is dead")

// DestroyName is what echo NAME > delete_cache does: Destroy for caches that the
// program made with ShellDelete.
//
// Errors: ErrNotExist, ErrPermission, ErrBusy, ErrCallback.
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
	}, false)
}

// destroy ends the caches that find returns, all of them or none, and with last
// refuses creates from then on. find runs under slab_mutex, and again whenever
// destroy had to wait without it.
//
// The order is that of Linux since 2022: what drains active references holds no
// lock (docs/locking.md). The steps:
//
//	look up       under the locks; again after a wait for a publish, without them
//	shut down     under the locks: close the sheaves, drain, count; dead from here on
//	off the list  under the locks: unlinks are booked, name and id stay reserved
//	drop locks    both
//	unlink        no lock held: out of each tree, links first, drain active references, notify
//	free name     a create of the same name or id finds no trace of the old one
//	release       area and control data: nobody can be looking at them; or give a typesafe-by-RCU core to the work that does it
//
// A core is shut down and released with its last name; the others are only unlinked.
// docs/model has the steps too, and what comes of another order.
func (a *Allocator) destroy(find func() ([]*Cache, error), last bool) error {
	for {
		a.hotplug.RLock() // step: look up
		a.mu.Lock()
		cs, err := find()
		for _, c := range cs {
			if lockdep.InCallbackAbout(c.core.root) {
				err = fmt.Errorf("destroy cache %q: %w", c.name, errInCallback)
			}
		}
		wait := err == nil && inTheWay(cs)
		if err == nil && !wait {
			return a.destroyLocked(cs, last)
		}
		a.hotplug.RUnlock()
		if wait {
			a.unbooked.Wait()
		}
		a.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// inTheWay reports whether the destroy of some handles must wait for bookings
// first.
//
// Preconditions: slab_mutex is held.
func inTheWay(cs []*Cache) bool {
	for _, c := range cs {
		if c.publishes.n > 0 { // a publish and an unlink never overtake each other
			return true
		}
	}
	for _, k := range coresOf(cs) {
		booked := false
		switch others := k.others(cs); {
		case len(others) == 0:
			booked = k.unlinks.n > 0 // nor a directory's unlink that of a link; publishes of it end before theirs
		case !slices.ContainsFunc(others, func(h *Cache) bool { return !h.making }):
			booked = others[0].publishes.n > 0 // if all of them fail, these are the last
		}
		if booked {
			return true
		}
	}
	return false
}

// destroyLocked releases both locks.
//
// Preconditions: the hotplug lock is held for reading, and a.mu; none of the
// handles is dead, and nothing is in the way.
func (a *Allocator) destroyLocked(cs []*Cache, last bool) error {
	cores := slices.DeleteFunc(coresOf(cs), func(k *core) bool { return len(k.others(cs)) > 0 }) // lose their last name
	err := a.shutDown(cores)
	var finish func()
	if err == nil {
		a.closing = a.closing || last
		a.under.add(1)
		finish = a.leave(cs, cores)
	}
	a.mu.Unlock() // step: drop locks
	a.hotplug.RUnlock()

	for _, k := range cores {
		k.reportDamage()
	}
	if err != nil {
		return err
	}
	finish()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unbook(&a.under, 1)
	return nil
}

// leave takes handles off the list, with cores that have no others and are shut down,
// and books their unlinks. The function that it returns does what remains of
// destroy, with no lock held.
//
// Preconditions: a.mu is held.
func (a *Allocator) leave(cs []*Cache, cores []*core) (finish func()) {
	cs = slices.Clone(cs)
	for _, k := range cores {
		if k.id != "" {
			cs = append(cs, k.root) // after its links
		}
	}
	for _, c := range cs {
		c.kill()
	}
	a.remove(cs) // step: off the list
	d := &departure{a: a, cs: cs, cores: cores, booked: a.bookUnlinks(cs)}
	d.take(a.order.locked)
	return func() { d.take(a.order.unlocked) }
}

// A departure is handles that are off the list, with what is still to be done for them.
type departure struct {
	a      *Allocator
	cs     []*Cache  // links before their directory
	cores  []*core   // those that have lost their last name
	booked []booking // unlinks of cs
	drains []func()  // for fault.NotifyUnderLocks
}

// An order is the steps of a departure: with the locks of destroy, without, and in
// the work that releases typesafe-by-RCU cores.
type order struct{ locked, unlocked, work steps }

type steps []func(*departure)

// rightOrder unlinks with no lock held, and releases last. wrongOrders has others.
var rightOrder = order{unlocked: steps{
	(*departure).discard,
	(*departure).unlink,
	(*departure).freeNames,
	(*departure).release,
}}

func (d *departure) take(s steps) {
	for _, step := range s {
		step(d)
	}
}

// discard gives the slabs back.
func (d *departure) discard() {
	for _, k := range d.cores {
		k.discardAll()
	}
}

// unlink does what is booked.
func (d *departure) unlink() {
	for _, b := range d.booked {
		b.t.unlink(b.c)
	}
}

// freeNames frees names and ids, and ends what was booked and what remove began.
func (d *departure) freeNames() {
	d.a.mu.Lock()
	defer d.a.mu.Unlock()
	d.forgetNames()
	d.end()
}

// Preconditions: d.a.mu is held.
func (d *departure) forgetNames() {
	for _, c := range d.cs {
		if c.isDirectory() {
			delete(d.a.ids, c.name)
		} else {
			delete(d.a.names, c.name) // step: free name
		}
	}
}

// Preconditions: d.a.mu is held.
func (d *departure) end() {
	for _, b := range d.booked {
		d.a.unbook(&b.t.busy, 1)
	}
	for _, c := range d.cs {
		d.a.unbook(&c.core.unlinks, 1)
	}
}

// release releases the cores, or has the work do it: no tree shows them.
func (d *departure) release() {
	d.list()
	d.releaseOthers()
	d.schedule()
}

// releaseOthers releases those that need no grace period.
func (d *departure) releaseOthers() { release(d.those(false)) }

// those returns the cores that are typesafe by RCU, or the others.
func (d *departure) those(typesafe bool) (cores []*core) {
	for _, k := range d.cores {
		if k.typesafe() == typesafe {
			cores = append(cores, k)
		}
	}
	return cores
}

// remove takes dead handles off the lists. Their names stay reserved until freeNames.
//
// Preconditions: a.mu is held.
func (a *Allocator) remove(cs []*Cache) {
	for _, c := range cs {
		c.core.unlinks.add(1)
	}
	for _, k := range coresOf(cs) {
		k.setHandles(k.others(cs))
	}
	a.setCaches(slices.DeleteFunc(slices.Clone(a.caches), func(c *Cache) bool { return slices.Contains(cs, c) }))
}

// shutDown makes the cores and all of their handles dead, if no object of any is live,
// or else changes nothing and returns ErrBusy, or why the sheaves could not be closed.
// It holds the per-CPU locks of all of them, which only a holder of flush_lock may:
// everybody else holds one.
//
// Preconditions: the hotplug lock and slab_mutex are held; none of the cores is dying.
func (a *Allocator) shutDown(cores []*core) (err error) {
	if len(cores) == 0 {
		return nil
	}
	a.flushLock.Lock() // step: shut down
	defer a.flushLock.Unlock()
	slices.SortFunc(cores, func(k, l *core) int { return cmp.Compare(k.number, l.number) }) // the order of their locks
	for _, k := range cores {
		a.roomFor(k)
		k.lockCPUs()
		defer k.unlockCPUs()
	}
	if err := a.closeAreas(cores); err != nil {
		return fmt.Errorf("destroy cache %q: %w", cores[0].handles[0].name, err)
	}
	for _, k := range cores {
		objs, kept := k.collect(a.flushBuf[:0])
		k.giveBack(objs, &kept)
		if live := k.inUse(); live > 0 {
			err = fmt.Errorf("destroy cache %q: %d objects are in use%s: %w", k.handles[0].name, live, k.inLocals(), ErrBusy)
			break
		}
	}
	for _, k := range cores {
		if err != nil {
			k.reopenAreas()
			continue
		}
		k.dying = true
		a.active.remove(k)
		k.root.kill()
		for _, c := range k.handles {
			c.kill()
		}
	}
	return err
}

// discardAll gives back every slab of a core that is dying: all of them are on nodes' lists.
//
// Preconditions: no lock is held.
func (k *core) discardAll() {
	var all slabList
	for _, n := range k.nodes {
		n.mu.Lock()
		for p := n.partial.head; p != 0; p = n.partial.head {
			n.removePartial(p)
			k.drop(n, p, &all)
		}
		k.callLate(n) // not by the callback before: Barrier waits only for what is queued by now
		n.mu.Unlock()
	}
	k.discardSlabs(&all)
}

// release gives back what cores hold beside their slabs. The cores themselves are
// Go memory and stay readable, for the panics of those who still call them.
//
// It fences a second time, once for all of them: a sequence that was delayed since
// before the handle got the closed area still holds the old address, and would pop
// objects of the cache that gets the place next.
//
// Preconditions: the cores are dying and no tree shows them.
func release(cores []*core) {
	used := make([]cpu.Mask, len(cores))
	seq := false
	for i, k := range cores {
		for n, pc := range k.cpus {
			if pc != nil && pc.open.Load() {
				used[i].Set(n)
				k.a.areas.Add(-int64(percpu.Bytes(k.sheafMax)))
			}
		}
		k.checkUnlinked()
		k.released.Store(true) // step: release
		seq = seq || k.seq
	}
	if seq && !fault.NoSecondFence && rseq.Fence() != nil {
		for _, k := range cores {
			k.a.lostPlaces.Add(1) // a sequence may still hold its address: it is never used again
		}
		return
	}
	for i, k := range cores {
		percpu.FreePlace(k.place, k.sheafMax, used[i])
	}
}
