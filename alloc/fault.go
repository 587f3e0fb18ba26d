package alloc

import "slabfs/internal/fault"

// interrupt is what fault.MprotectWhileClosed lets closers of sheaves call. A test sets it.
var interrupt = func() {}

// A forgetter is a Publisher whose Unlink comes in two halves, for
// fault.NotifyUnderLocks: the kernel is told, then the files are drained.
type forgetter interface {
	Forget(c *Cache, name string) (drain func())
}

// unlinkLocked unlinks as it should not be done, or takes the first half of that
// step. The function that it returns does the rest, without the locks.
func unlinkLocked(booked []booking) (rest func()) {
	drains := make([]func(), len(booked))
	for i, b := range booked {
		f, ok := b.t.publisher.(forgetter)
		switch {
		case fault.UnlinkUnderLocks:
			b.t.unlink(b.c)
			drains[i] = func() {}
		case ok:
			drains[i] = f.Forget(b.c, b.c.name)
		default:
			drains[i] = func() { b.t.unlink(b.c) }
		}
	}
	return func() {
		for _, drain := range drains {
			drain()
		}
	}
}
