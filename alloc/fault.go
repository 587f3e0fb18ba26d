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
func (a *Allocator) unlinkLocked(c *Cache, trees []*tree) (rest func()) {
	drains := make([]func(), len(trees))
	for i, t := range trees {
		f, ok := t.publisher.(forgetter)
		switch {
		case fault.UnlinkUnderLocks:
			t.unlink(c)
			drains[i] = func() {}
		case ok:
			drains[i] = f.Forget(c, c.name)
		default:
			drains[i] = func() { t.unlink(c) }
		}
	}
	return func() {
		for _, drain := range drains {
			drain()
		}
		a.endUnlink(c, trees)
	}
}
