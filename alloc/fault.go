package alloc

import "slabfs/internal/fault"

// interrupt runs while sheaves are closed, with fault.MprotectWhileClosed. A
// test sets it.
var interrupt = func() {}

// chooseOrder makes the allocator commit the mistake of a switch of package
// fault, if there is a switch of that name.
func (a *Allocator) chooseOrder(name string) {
	a.order = rightOrder
	if wrong, ok := wrongOrders[name]; ok {
		a.order = wrong
	}
	a.publishesLocked = name == fault.PublishUnderLocks
}

// wrongOrders are rightOrder with one mistake each, by the name of its switch.
var wrongOrders = map[string]order{
	fault.UnlinkUnderLocks: {
		locked:   steps{(*departure).unlink},
		unlocked: steps{(*departure).discard, (*departure).freeNames, (*departure).release},
	},
	fault.NotifyUnderLocks: {
		locked:   steps{(*departure).forget},
		unlocked: steps{(*departure).discard, (*departure).drain, (*departure).freeNames, (*departure).release},
	},
	fault.PublishBeforeUnlink: {
		locked:   steps{(*departure).discard, (*departure).list}, // discard queues callbacks for the work
		unlocked: steps{(*departure).unlink, (*departure).freeNames, (*departure).releaseOthers, (*departure).schedule},
	},
	fault.LateUnlink: {
		unlocked: steps{(*departure).discard, (*departure).unlinkOthers, (*departure).release},
		work:     steps{(*departure).unlink, (*departure).freeNames},
	},
	fault.EarlyName: {
		locked:   steps{(*departure).forgetNames},
		unlocked: steps{(*departure).discard, (*departure).unlink, (*departure).freeNoNames, (*departure).release},
	},
	fault.ReleaseBeforeUnlink: {
		unlocked: steps{(*departure).discard, (*departure).release, (*departure).unlink, (*departure).freeNames},
	},
}

// A forgetter is a Publisher whose Unlink has two halves: first it tells the
// kernel, then it drains the files.
type forgetter interface {
	Forget(c *Cache, name string) (drain func())
}

// forget is the first half of unlink.
func (d *departure) forget() {
	for _, b := range d.booked {
		drain := func() { b.t.unlink(b.c) }
		if f, ok := b.t.publisher.(forgetter); ok {
			drain = f.Forget(b.c, b.c.name)
		}
		d.drains = append(d.drains, drain)
	}
}

// drain is the second half.
func (d *departure) drain() {
	for _, drain := range d.drains {
		drain()
	}
}

// unlinkOthers unlinks the departures that the work will not unlink.
func (d *departure) unlinkOthers() {
	if len(d.those(true)) == 0 {
		d.unlink()
		d.freeNames()
	}
}

// freeNoNames is freeNames without the names, which may belong to other caches
// by now.
func (d *departure) freeNoNames() {
	d.a.mu.Lock()
	defer d.a.mu.Unlock()
	d.end()
}

// publishLocked makes the mistake of fault.PublishUnderLocks.
//
// Preconditions: the hotplug lock and slab_mutex are held.
func publishLocked(made []*Cache, trees []*tree) {
	for _, t := range trees {
		for _, c := range made {
			_ = t.publisher.Publish(c, c.name)
		}
	}
}
