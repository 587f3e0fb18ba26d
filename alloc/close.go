package alloc

import (
	"errors"
	"fmt"
	"strings"

	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

// Close destroys every cache that has no live objects, kmalloc-* only when no
// other is left and all of them are empty. If objects live it returns ErrBusy
// with the names of their caches; the allocator works on, creates included,
// and Close can be called again. When it returns nil nothing of the allocator
// runs any more.
//
// ErrCallback: it was called from a show, a store, a work item or a Publisher,
// for which it would wait. ErrClosed: it was closed before.
func (a *Allocator) Close() error {
	if lockdep.InCallback() {
		return fmt.Errorf("close allocator: %w", errInCallback)
	}
	a.mu.Lock()
	if a.closing {
		a.mu.Unlock()
		return fmt.Errorf("close allocator: %w", ErrClosed)
	}
	a.closing = true
	a.mu.Unlock()

	a.waitIdle()
	busy := a.destroyAll(func(c *Cache) bool { return c.usersize == 0 })
	if len(busy) == 0 {
		busy = a.liveBytes()
	}
	if len(busy) == 0 {
		busy = a.destroyAll(func(*Cache) bool { return true })
	}
	a.waitIdle()
	if len(busy) > 0 {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.closing = false
		return fmt.Errorf("close allocator: %s: %w; free them and close again", strings.Join(busy, ", "), ErrBusy)
	}
	a.giver.CancelSync()
	a.queue.Destroy()
	pages.Return(keepFree)
	return nil
}

// destroyAll destroys those caches that have no live objects, and lists the others.
func (a *Allocator) destroyAll(which func(*Cache) bool) (busy []string) {
	for _, c := range a.Caches() {
		if !which(c) {
			continue
		}
		err := a.destroy(func() (*Cache, error) {
			if c.dead.Load() {
				return nil, errDead
			}
			return c, nil
		})
		if errors.Is(err, ErrBusy) {
			busy = append(busy, c.describeLive())
		}
	}
	return busy
}

// liveBytes lists what Bytes handed out and has not got back.
func (a *Allocator) liveBytes() (busy []string) {
	for _, c := range a.kmalloc {
		if !c.dead.Load() && c.Stats().Objects > 0 {
			busy = append(busy, c.describeLive())
		}
	}
	if n := a.runs.Load(); n > 0 {
		busy = append(busy, fmt.Sprintf("%d bytes in whole pages", n))
	}
	return busy
}

func (c *Cache) describeLive() string {
	return fmt.Sprintf("%s (%d objects)", c.name, c.Stats().Objects)
}

// waitIdle waits until no create publishes and no destroy unlinks.
func (a *Allocator) waitIdle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for idle := a.under.wait(); idle != nil; idle = a.under.wait() {
		a.mu.Unlock()
		<-idle
		a.mu.Lock()
	}
}
