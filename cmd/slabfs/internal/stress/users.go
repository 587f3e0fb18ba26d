package stress

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"slabfs/alloc"
)

// Actors that use objects.

// allocator allocates a batch from one cache and frees it in another order. If
// the cache stays, it leaves some of the frees to other allocators.
func allocator(ctx context.Context, a *actor) {
	stays := a.newCache(fmt.Sprint("alloc", a.number), 64, 0)
	for ctx.Err() == nil {
		c := stays
		if a.rng.IntN(4) > 0 {
			c = a.cache()
		}
		if c == nil {
			runtime.Gosched()
			continue
		}
		_ = a.do(opAllocate, c.Name(), func() error { return a.batch(c, c == stays) })
		a.pause(time.Millisecond)
	}
}

func (a *actor) batch(c *alloc.Cache, share bool) (err error) {
	var objs []object
	for len(objs) < 64 {
		o, lost := a.allocate(c)
		if err = lost; err != nil {
			break
		}
		objs = append(objs, o)
		if !share {
			continue
		}
		select {
		case a.exchange <- o:
			objs = objs[:len(objs)-1]
		default:
		}
		select {
		case o := <-a.exchange:
			objs = append(objs, o)
		default:
		}
	}
	a.rng.Shuffle(len(objs), func(i, j int) { objs[i], objs[j] = objs[j], objs[i] })
	for _, o := range objs {
		a.release(o)
	}
	return err
}

// allocate returns errLimit at the memory limit, and errDead if the cache was destroyed.
func (a *actor) allocate(c *alloc.Cache) (o object, err error) {
	defer func() { err = deadOr(recover(), "Alloc", c, err) }()
	o, ok := newObject(c, a.tags.Add(1<<8)) // more than an object has words
	if !ok {
		return o, errLimit
	}
	return o, nil
}

// release checks an object and frees it through its cache. If that cache was
// destroyed, it frees the object through another cache that shares its core. As
// long as the object is live, there is one.
func (w *world) release(o object) {
	if !o.intact() {
		w.saw(overwritten, "an object of cache %q at %p", o.cache.Name(), o.at)
	}
	for c := o.cache; ; {
		if !errors.Is(freeThrough(c, o), errDead) {
			return
		}
		caches := w.a.Caches()
		i := slices.IndexFunc(caches, func(d *alloc.Cache) bool { return d.ID() == o.cache.ID() })
		if i < 0 {
			w.saw(orphans, "cache %q", o.cache.Name())
			return
		}
		c = caches[i]
	}
}

func freeThrough(c *alloc.Cache, o object) (err error) {
	defer func() { err = deadOr(recover(), "Free", c, err) }()
	o.free(c)
	return nil
}

// newCache creates a cache with a name that only this actor uses.
func (a *actor) newCache(name string, size int, flags alloc.Flags) (c *alloc.Cache) {
	_ = a.do(opCreateOwn, name, func() (err error) {
		c, err = a.a.NewCache(name, size, alloc.CacheOptions{Flags: flags, ShellDelete: true})
		return err
	})
	return c
}

// sharer makes two names share one core, and destroys one of them while objects
// are live. The objects then belong to the other name. The link of the
// destroyed name goes, but not the directory.
func sharer(ctx context.Context, a *actor) {
	names := [2]string{fmt.Sprint("share", a.number, "a"), fmt.Sprint("share", a.number, "b")}
	for ctx.Err() == nil {
		var cs [2]*alloc.Cache
		for i, name := range names {
			if cs[i] = a.newCache(name, 40-i, 0); cs[i] == nil {
				return
			}
		}
		if cs[0].ID() != cs[1].ID() {
			a.saw(apart, "%q and %q", cs[0].ID(), cs[1].ID())
			return
		}
		gone := a.rng.IntN(2)
		c := cs[1-gone]
		var objs []object
		for range 1 + a.rng.IntN(100) {
			if o, err := a.allocate(cs[a.rng.IntN(2)]); err == nil {
				objs = append(objs, o)
			}
		}
		a.destroy(cs[gone])
		_, _ = a.ask(opListGone, names[gone], request{Do: "list", Path: a.path(names[gone])})
		file := c.Name() + "/cpu_partial"
		_, _ = a.ask(opStoreOwn, file, request{"echo", a.path(file), "10\n"})
		for _, o := range objs {
			a.release(o)
		}
		a.destroy(c)
		a.pause(time.Millisecond)
	}
}

// destroy destroys a cache that has no live objects, or shares its core, and
// gives the kernel time to hear of it.
func (a *actor) destroy(c *alloc.Cache) {
	unheard := a.unheard()
	if a.rng.IntN(2) == 0 {
		_ = a.do(opDestroyOwn, c.Name(), c.Destroy)
	} else {
		_, _ = a.ask(opShellDestroyOwn, c.Name(), request{"echo", a.module("delete_cache"), c.Name()})
	}
	if a.unheard() != unheard {
		time.Sleep(time.Second) // the kernel may cache the directory for this long
	}
}

// refused follows a cache of its own through its life. With live objects, the
// cache cannot be destroyed and loses nothing. Without them it can be
// destroyed, and then nothing is left of it: its name and directory are gone,
// and descriptors opened before are useless.
func refused(ctx context.Context, a *actor) {
	name := fmt.Sprint("busy", a.number)
	file := name + "/cpu_partial"
	shellDestroy := request{"echo", a.module("delete_cache"), name}
	for ctx.Err() == nil {
		c := a.newCache(name, a.size(), alloc.NoMerge|a.flags())
		if c == nil {
			return
		}
		if _, err := a.ask(opOpenOwn, file, request{Do: "openw", Path: a.path(file)}); err != nil {
			return
		}
		var objs []object
		for range 1 + a.rng.IntN(100) {
			if o, err := a.allocate(c); err == nil {
				objs = append(objs, o)
			}
		}
		if len(objs) > 0 {
			if err := a.do(opRefuse, name, c.Destroy); err == nil {
				return
			}
			if _, err := a.ask(opRefuse, name, shellDestroy); err == nil {
				return
			}
			_, _ = a.ask(opStoreOwn, file, request{Do: "write", Data: "10\n"})
		}
		for _, o := range objs {
			a.release(o)
		}
		a.destroy(c)
		_, _ = a.ask(opStoreGone, file, request{Do: "write", Data: "10\n"})
		_, _ = a.ask(opClose, file, request{Do: "close"})
		_, _ = a.ask(opListGone, name, request{Do: "list", Path: a.path(name)})
		a.pause(time.Millisecond)
	}
}

// unheard returns how many destroys went on before the kernel had heard of
// them.
func (w *world) unheard() uint64 {
	s := w.srv.Stats()
	return s.Late + s.Skipped
}

// hoarder keeps allocating at the memory limit. All hoarders rest at the same
// time, so that other actors get memory too.
func hoarder(ctx context.Context, a *actor) {
	const phase = 100 * time.Millisecond
	c := a.newCache(fmt.Sprint("hoard", a.number), 32<<10, 0)
	if c == nil {
		return
	}
	for ctx.Err() == nil {
		var hoard []object
		for ctx.Err() == nil && time.Since(a.began)/phase%2 == 0 {
			if a.do(opHoard, c.Name(), func() error {
				for range 16 {
					o, err := a.allocate(c)
					if err != nil {
						a.counters[atLimit].Add(1)
						return err
					}
					hoard = append(hoard, o)
				}
				return nil
			}) != nil {
				a.pause(100 * time.Microsecond)
			}
		}
		for _, o := range hoard {
			a.release(o)
		}
		time.Sleep(phase - time.Since(a.began)%phase)
	}
}

var errLimit = fmt.Errorf("at the memory limit")
