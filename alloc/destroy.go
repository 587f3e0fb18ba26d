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

// Destroy ends the cache. When it returns nil, no tree shows the cache, no show
// or store of it runs, its memory is free and its name can be used again. The
// memory of a typesafe-by-RCU cache is freed after a grace period; Destroy does
// not wait for it.
//
// If other names share the cache's slabs, only the handle and the name end. The
// objects live on and can be freed through the other handles.
//
// Destroy panics if Destroy or DestroyName has destroyed the cache before.
//
// Errors; nothing has changed then:
//
//   - ErrBusy: objects are live, and no other name shares the slabs. Objects in
//     a Local are live until its Return.
//   - ErrCallback: Destroy was called from a show or a store of the cache's own
//     directory, or from a Publisher for it, and would wait for its caller. A
//     callback of another cache may call it, as the file delete_cache does. But
//     two stores that destroy each other's cache wait for each other.
//   - ErrPermission: c is the handle of a directory, which only Publishers get.
//   - The error of membarrier(2): the kernel refuses a fence.
func (c *Cache) Destroy() error {
	err := c.core.a.destroy(c.find, false)
	if errors.Is(err, errDead) {
		c.panicDead("Destroy")
	}
	return err
}

// find is the argument of destroy for a handle that is known.
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

// DestroyName is Destroy by name, for caches that the program made with
// ShellDelete. echo NAME > delete_cache calls it.
//
// Errors: ErrNotExist, ErrPermission without ShellDelete, and the errors of
// Destroy.
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

// destroy ends the caches that find returns, all of them or none. With last, it
// refuses creates from then on. find runs under slab_mutex. It runs again each
// time that destroy had to wait without slab_mutex.
//
// The order follows Linux since 2022: no lock is held while active references
// drain (docs/locking.md). The steps:
//
//	look up       under the locks; again after a wait for a publish
//	shut down     under the locks: close sheaves, drain, count; then dead
//	off the list  under the locks: book unlinks; name and id stay reserved
//	drop locks    both of them
//	unlink        no lock held: from each tree, links first; drain references
//	free name     from now on a create may use the name and the id
//	release       free areas and data, or leave that to the work of RCU
//
// A core is shut down and released with its last name. Other cores are only
// unlinked. docs/model has the same steps, and shows the damage that another
// order does.
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
		if c.publishes.n > 0 { // an unlink must not overtake a publish
			return true
		}
	}
	for _, k := range coresOf(cs) {
		booked := false
		switch others := k.others(cs); {
		case len(others) == 0:
			booked = k.unlinks.n > 0 // the unlink of a directory must not overtake the unlink of a link
		case !slices.ContainsFunc(others, func(h *Cache) bool { return !h.making }):
			booked = others[0].publishes.n > 0 // if all of them fail, cs are the last handles
		}
		if booked {
			return true
		}
	}
	return false
}

// destroyLocked is destroy from the step shut down on. It releases both locks.
//
// Preconditions: the hotplug lock is held for reading, and a.mu; none of the
// handles is dead, and nothing is in the way.
func (a *Allocator) destroyLocked(cs []*Cache, last bool) error {
	// These cores lose their last name.
	cores := slices.DeleteFunc(coresOf(cs), func(k *core) bool { return len(k.others(cs)) > 0 })
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

// leave takes handles off the list and books their unlinks. cores are shut down
// and have no other handles. The function that it returns does the rest of
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

// A departure is handles that are off the list, with the work that is left to
// do for them.
type departure struct {
	a      *Allocator
	cs     []*Cache  // links before their directory
	cores  []*core   // cores that have lost their last name
	booked []booking // unlinks of cs
	drains []func()  // for fault.NotifyUnderLocks
}

// An order is the steps of a departure: under the locks of destroy, without
// them, and in the work that releases typesafe-by-RCU cores.
type order struct{ locked, unlocked, work steps }

type steps []func(*departure)

// rightOrder unlinks with no lock held, and releases last. wrongOrders in
// fault.go has other orders.
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

// unlink carries out the booked unlinks.
func (d *departure) unlink() {
	for _, b := range d.booked {
		b.t.unlink(b.c)
	}
}

// freeNames frees names and ids, and ends all bookings of the departure.
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

// release releases the cores that need no grace period and leaves the others to
// the work. No tree shows them.
func (d *departure) release() {
	d.list()
	d.releaseOthers()
	d.schedule()
}

// releaseOthers releases the cores that need no grace period.
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

// remove takes dead handles off the lists. Their names stay reserved until
// freeNames.
func (a *Allocator) remove(cs []*Cache) {
	for _, c := range cs {
		c.core.unlinks.add(1)
	}
	for _, k := range coresOf(cs) {
		k.setHandles(k.others(cs))
	}
	a.setCaches(slices.DeleteFunc(slices.Clone(a.caches), func(c *Cache) bool { return slices.Contains(cs, c) }))
}

// shutDown makes the cores and all of their handles dead. If an object of any
// core is live, it changes nothing and returns ErrBusy. If the sheaves could
// not be closed, it changes nothing and returns why. It holds the per-CPU locks
// of all cores. Only a holder of flush_lock may hold more than one.
//
// Preconditions: the hotplug lock and slab_mutex are held; none of the cores is
// dying.
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

// discardAll frees every slab of a core that is dying. All of them are on
// nodes' lists.
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
		k.callLate(n) // an earlier callback would queue it too late for Barrier
		n.mu.Unlock()
	}
	k.discardSlabs(&all)
}

// release frees what cores hold besides their slabs. The cores themselves are
// Go memory and stay readable, for the panics of later calls.
//
// It fences a second time, once for all cores. A sequence that was delayed
// since before the handle got the closed area still holds the old address.
// Without the fence it would pop objects of the next cache at that place.
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
			k.a.lostPlaces.Add(1) // a sequence may still hold the address, so the place is never used again
		}
		return
	}
	for i, k := range cores {
		percpu.FreePlace(k.place, k.sheafMax, used[i])
	}
}
