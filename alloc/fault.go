package alloc

import "slabfs/internal/fault"

// interrupt is what fault.MprotectWhileClosed lets closers of sheaves call. A test sets it.
var interrupt = func() {}

// chooseOrder has the allocator make the mistake that a switch of package fault is for, if
// there is one of that name.
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
		locked:   steps{(*departure).discard, (*departure).list}, // what the work waits for is queued before
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

// A forgetter is a Publisher whose Unlink comes in two halves: the kernel is told,
// then the files are drained.
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

// unlinkOthers unlinks what the work will not.
func (d *departure) unlinkOthers() {
	if len(d.those(true)) == 0 {
		d.unlink()
		d.freeNames()
	}
}

// freeNoNames is freeNames where the names may be those of others by now.
func (d *departure) freeNoNames() {
	d.a.mu.Lock()
	defer d.a.mu.Unlock()
	d.end()
}

// publishLocked is fault.PublishUnderLocks.
//
// Preconditions: the hotplug lock and slab_mutex are held.
func publishLocked(made []*Cache, trees []*tree) {
	for _, t := range trees {
		for _, c := range made {
			_ = t.publisher.Publish(c, c.name)
		}
	}
}
