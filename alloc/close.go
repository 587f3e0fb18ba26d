package alloc

import (
	"errors"
	"fmt"
	"slices"
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
// Once nothing is live it waits for the read-side sections of RCU: one that never
// ends blocks it for ever, as it would from within one.
//
// ErrCallback: it was called from a show, a store, a work item or a Publisher,
// for which it would wait. ErrClosed: it was closed before. rcu.ErrFence: the kernel
// refuses to tell whether readers have left; nothing is lost, and it can be called again.
func (a *Allocator) Close() error {
	if lockdep.InCallback() {
		return fmt.Errorf("close allocator: %w", errInCallback)
	}
	a.mu.Lock()
	if a.closing && !a.ended {
		a.mu.Unlock()
		return fmt.Errorf("close allocator: %w", ErrClosed)
	}
	ended := a.ended
	a.closing, a.ended = true, false
	a.mu.Unlock()

	a.waitIdle()
	busy, err := a.destroyOthers()
	if len(busy) == 0 && err == nil {
		busy, err = a.destroyKmalloc()
	}
	a.waitIdle()
	if len(busy) > 0 {
		err = fmt.Errorf("%s: %w; free them and close again", strings.Join(busy, ", "), ErrBusy)
	}
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.closing, a.ended = ended, ended // a Bytes that raced with a Close that failed late does not open it again
		return fmt.Errorf("close allocator: %w", err)
	}
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

// destroyOthers destroys those caches that have no live objects, but for
// kmalloc-*, and lists the others. The error is about those that were empty. Names
// of one core end together or not at all.
func (a *Allocator) destroyOthers() (busy []string, err error) {
	names := make(map[*core][]string)
	var cores []*core
	for _, c := range a.Caches() {
		if c.usersize > 0 {
			continue
		}
		if names[c.core] == nil {
			cores = append(cores, c.core)
		}
		names[c.core] = append(names[c.core], c.name)
	}
	for _, k := range cores {
		switch failed := a.destroy(k.findAll); {
		case errors.Is(failed, ErrBusy):
			busy = append(busy, k.describeLive(strings.Join(names[k], " and ")))
		case failed != nil && !errors.Is(failed, errDead):
			err = failed
		}
	}
	return busy, err
}

// findAll is what destroy is called with for all handles of a core.
func (k *core) findAll() ([]*Cache, error) {
	if len(k.handles) == 0 {
		return nil, errDead
	}
	return slices.Clone(k.handles), nil
}

// destroyKmalloc destroys kmalloc-*, all of them or none: half of Bytes is no
// use to anybody. It lists what Bytes handed out and has not got back.
func (a *Allocator) destroyKmalloc() (busy []string, err error) {
	err = a.destroy(func() (live []*Cache, err error) {
		if a.runs.Load() > 0 {
			return nil, ErrBusy
		}
		for _, c := range a.kmalloc {
			if !c.dead.Load() { // the program destroyed this one itself
				live = append(live, c)
			}
		}
		return live, nil
	})
	if !errors.Is(err, ErrBusy) {
		return nil, err
	}
	for _, c := range a.kmalloc {
		if c.Stats().Objects > 0 {
			busy = append(busy, c.core.describeLive(c.name))
		}
	}
	if n := a.runs.Load(); n > 0 {
		busy = append(busy, fmt.Sprintf("%d bytes in whole pages", n))
	}
	if len(busy) == 0 { // they were freed meanwhile
		busy = append(busy, err.Error())
	}
	return busy, nil
}

func (k *core) describeLive(names string) string {
	return fmt.Sprintf("%s (%d objects)", names, k.root.Stats().Objects)
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
