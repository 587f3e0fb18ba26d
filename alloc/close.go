package alloc

import (
	"errors"
	"fmt"
	"strings"

	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

// Close destroys all caches, or none. If objects are live, it returns ErrBusy
// with the names of their caches, nothing has changed, and Close can be called
// again. NewCache waits while Close decides, except in a callback. When Close
// returns nil, no goroutine of the allocator runs any more.
//
// Once no object is live, Close waits for the read-side sections of RCU. A
// section that never ends blocks Close for ever, and so does a Close from
// within a section.
//
// Errors:
//
//   - ErrBusy: objects are live.
//   - ErrClosed: the allocator was closed before.
//   - ErrCallback: Close was called from a show, a store, a work item or a
//     Publisher, and would wait for its caller.
//   - rcu.ErrFence: the kernel does not tell whether readers have left. Nothing
//     is lost; call Close again.
//   - The error of membarrier(2): nothing has changed; call Close again.
func (a *Allocator) Close() error {
	if lockdep.InCallback() {
		return fmt.Errorf("close allocator: %w", errInCallback)
	}
	a.mu.Lock()
	again := a.ended // an earlier Close ended everything except the RCU domain
	a.ended = false
	a.deciding.add(1)
	a.mu.Unlock()
	err := a.destroyAll(again)
	a.mu.Lock()
	a.unbook(&a.deciding, 1)
	// If an earlier Close failed late, and a racing Bytes makes this one
	// fail, the next Close must still end the RCU domain.
	a.ended = a.ended || again && err != nil
	a.mu.Unlock()
	if err != nil {
		return fmt.Errorf("close allocator: %w", err)
	}
	a.waitIdle()
	if err := a.endRCU(); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ended = true
		return fmt.Errorf("close allocator: %w; close it again", err)
	}
	a.giver.CancelSync()
	a.queue.Destroy()
	pages.Return(keepFree)
	return nil
}

// destroyAll destroys all caches at once and refuses creates from then on, or
// changes nothing.
func (a *Allocator) destroyAll(again bool) error {
	err := a.destroy(func() ([]*Cache, error) {
		switch {
		case a.closing && !again:
			return nil, ErrClosed
		case a.runs.Load() > 0:
			return nil, ErrBusy
		}
		return a.caches, nil
	}, true)
	if !errors.Is(err, ErrBusy) {
		return err
	}
	if busy := a.busy(); len(busy) > 0 { // if none is live, the objects were freed since
		return fmt.Errorf("%s: %w; free them and close again", strings.Join(busy, ", "), ErrBusy)
	}
	return err
}

// busy lists the caches with live objects, the program's caches first.
func (a *Allocator) busy() (own []string) {
	names := make(map[*core][]string)
	var cores []*core
	for _, c := range a.Caches() {
		if names[c.core] == nil {
			cores = append(cores, c.core)
		}
		names[c.core] = append(names[c.core], c.name)
	}
	var kmalloc []string
	for _, k := range cores {
		n := k.root.Stats().Objects
		text := fmt.Sprintf("%s (%d objects%s)", strings.Join(names[k], " and "), n, k.inLocals())
		switch {
		case n == 0:
		case k.root.usersize > 0:
			kmalloc = append(kmalloc, text)
		default:
			own = append(own, text)
		}
	}
	if n := a.runs.Load(); n > 0 {
		kmalloc = append(kmalloc, fmt.Sprintf("%d bytes in whole pages", n))
	}
	return append(own, kmalloc...)
}

// waitIdle waits until no create publishes and no destroy unlinks.
func (a *Allocator) waitIdle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.under.n > 0 {
		a.unbooked.Wait()
	}
}
