package stress

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"slabfs/alloc"
)

// Actors that work on typesafe-by-RCU caches.

// A board is where an updater puts objects that readers can find.
type board [4]atomic.Pointer[posted]

// rcuDestroyer creates a typesafe-by-RCU cache, uses it and destroys it. When
// destroy returns, nothing of the cache is left in the files, although its
// release comes later.
func rcuDestroyer(ctx context.Context, a *actor) {
	name := fmt.Sprint("rcu", a.number)
	for ctx.Err() == nil {
		c := a.newCache(name, a.size(), alloc.TypesafeByRCU)
		if c == nil {
			return
		}
		for range 1 + a.rng.IntN(100) {
			if o, err := a.allocate(c); err == nil {
				a.release(o)
			}
		}
		if a.rcuDestroys.Add(1) > 1 {
			a.counters[rcuParallel].Add(1)
		}
		a.destroy(c)
		a.rcuDestroys.Add(-1)
		_, _ = a.ask(opListGone, name, request{Do: "list", Path: a.path(name)})
		a.pause(time.Millisecond)
	}
}

// updater puts objects on the board, removes them and frees them while readers
// look at them. From time to time it also destroys their cache.
func updater(ctx context.Context, a *actor) {
	for n := uint64(1); ctx.Err() == nil; n++ {
		name, kind := fmt.Sprint("type", a.number), newKind(a.tags.Add(1<<8))
		var c *alloc.Cache
		if a.do(opCreateOwn, name, func() (err error) {
			c, err = a.a.NewCache(name, a.size(), alloc.CacheOptions{Flags: alloc.TypesafeByRCU, Ctor: kind.construct, ShellDelete: true})
			return err
		}) != nil {
			return
		}
		for range 1 + a.rng.IntN(200) {
			i := a.rng.IntN(len(a.board))
			_ = a.do(opReplace, name, func() error {
				next := kind.post(c)
				if next == nil {
					return errLimit
				}
				if old := a.board[i].Swap(next); old != nil {
					old.free(c)
				}
				return nil
			})
			a.pause(200 * time.Microsecond)
		}
		for i := range a.board {
			if old := a.board[i].Swap(nil); old != nil {
				old.free(c)
			}
		}
		_ = a.do(opDestroyOwn, name, c.Destroy)
	}
}

// lookup looks at an object on the board, in a section. Even if the object is
// freed in that time, it stays an object of its kind until the section ends.
func lookup(ctx context.Context, a *actor) {
	rcu := a.a.RCU()
	for ctx.Err() == nil {
		_ = a.do(opSection, "the board", func() error {
			t := rcu.ReadLock()
			defer rcu.ReadUnlock(t)
			for i := range a.board {
				p := a.board[i].Load()
				if p == nil {
					continue
				}
				a.counters[validated].Add(1)
				for range 3 {
					if !p.ofKind() {
						a.saw(typeLost, "an object at %p", p.at)
						return nil
					}
					if a.rng.IntN(4) == 0 {
						a.pause(200 * time.Microsecond)
					} else {
						runtime.Gosched()
					}
				}
				if a.board[i].Load() != p {
					a.counters[replaced].Add(1)
				}
			}
			return nil
		})
		a.pause(time.Millisecond)
	}
}
