package stress

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"slabfs/alloc"
)

// An actorKind is how many there are unless the user wants otherwise, whether
// each has a client process, and what each does until the context ends.
type actorKind struct {
	count  int
	client bool
	run    func(context.Context, *actor)
}

// actorKinds are all kinds. The names of four caches, s0 to s3, are what most of
// them fight for.
var actorKinds = map[string]actorKind{
	"create":       {2, false, creator},
	"destroy":      {1, false, destroyer},
	"new_cache":    {1, true, shellCreator},
	"delete_cache": {1, true, shellDestroyer},
	"store":        {5, true, storer},
	"read":         {1, true, reader},
	"alloc":        {2, false, allocator},
	"busy":         {1, true, refused},
	"share":        {1, true, sharer},
	"hoard":        {4, false, hoarder},
	"attach":       {1, false, attacher},
	"online":       {1, false, counter},
	"hotplug":      {1, false, plugger},
}

const contested = 4 // names

func (a *actor) contestedName() string { return fmt.Sprint("s", a.rng.IntN(contested)) }

var contestedName = regexp.MustCompile(`^s\d$`)

// size is a power of two from 8 to 1024.
func (a *actor) size() int { return 8 << a.rng.IntN(8) }

// merge is how half of the caches that are made may share their core with others.
func (a *actor) merge() alloc.Flags { return alloc.NoMerge * alloc.Flags(a.rng.IntN(2)) }

// pause lets others have the CPU, for up to d.
func (a *actor) pause(d time.Duration) { time.Sleep(time.Duration(a.rng.Int64N(int64(d)))) }

// cache returns one of the contested caches that can be used now, nil if there is none.
func (a *actor) cache() *alloc.Cache {
	var found []*alloc.Cache
	for _, c := range a.a.Caches() {
		if contestedName.MatchString(c.Name()) {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[a.rng.IntN(len(found))]
}

func creator(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		name := a.contestedName()
		_ = a.do(opCreate, name, func() error {
			_, err := a.a.NewCache(name, a.size(), alloc.CacheOptions{Flags: a.merge(), ShellDelete: true})
			return err
		}, alloc.ErrExist)
		a.pause(200 * time.Microsecond)
	}
}

func shellCreator(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		name, flags := a.contestedName(), ""
		if a.merge() != 0 {
			flags = "flags=no_merge"
		}
		_, _ = a.ask(opShellCreate, name, request{"echo", a.module("new_cache"), fmt.Sprintln(name, a.size(), flags)}, syscall.EEXIST)
		a.pause(200 * time.Microsecond)
	}
}

func destroyer(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		if a.rng.IntN(2) == 0 {
			name := a.contestedName()
			_ = a.do(opDestroy, name, func() error { return a.a.DestroyName(name) }, alloc.ErrNotExist, alloc.ErrBusy)
		} else if c := a.cache(); c != nil {
			_ = a.do(opDestroy, c.Name(), func() error { return destroyHandle(c) }, errDead, alloc.ErrBusy)
		}
		a.pause(2 * time.Millisecond)
	}
}

func shellDestroyer(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		name := a.contestedName()
		_, _ = a.ask(opShellDestroy, name, request{"echo", a.module("delete_cache"), name}, syscall.ENOENT, syscall.EBUSY)
		a.pause(2 * time.Millisecond)
	}
}

// errDead: somebody else destroyed the cache first, which is told by a panic.
var errDead = fmt.Errorf("the cache was destroyed before")

func destroyHandle(c *alloc.Cache) (err error) {
	defer func() { err = deadOr(recover(), "Destroy", c, err) }()
	return c.Destroy()
}

// deadOr turns the panic of an operation on a destroyed cache into errDead. It
// passes other panics on.
func deadOr(p any, op string, c *alloc.Cache, err error) error {
	switch p {
	case nil:
		return err
	case fmt.Sprintf("slabfs: %s on cache %q after its Destroy", op, c.Name()):
		return errDead
	}
	panic(p)
}

// storer opens a file of a contested cache and writes to it until it is gone, or
// for a while.
func storer(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		name, file, data := a.contestedName(), "cpu_partial", fmt.Sprintln(a.rng.IntN(200))
		switch a.rng.IntN(8) {
		case 0:
			file = "min_partial"
		case 1:
			file, data = "shrink", "1\n"
		case 2:
			file, data = "sheaf_capacity", fmt.Sprintln(a.rng.IntN(5)) // every cache has room for 4
		case 3:
			file, data = "free_fastpath", "0\n"
		}
		what := name + "/" + file
		if _, err := a.ask(opOpen, what, request{Do: "openw", Path: a.path(what)}, syscall.ENOENT, syscall.ENODEV); err != nil {
			a.pause(200 * time.Microsecond)
			continue
		}
		for range 1 + a.rng.IntN(64) {
			if _, err := a.ask(opStore, what, request{Do: "write", Data: data}, syscall.ENODEV); err != nil || ctx.Err() != nil {
				break
			}
		}
		_, _ = a.ask(opClose, what, request{Do: "close"})
	}
}

// files are what a reader looks at in a cache.
var files = strings.Fields(`slab_size object_size objs_per_slab order sheaf_capacity min_partial cpu_partial
	objects_partial partial cpu_slabs ctor aliases align slabs_cpu_partial total_objects objects slabs usersize
	alloc_fastpath free_fastpath free_slab sheaf_flush`)

func reader(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		name := a.contestedName()
		switch a.rng.IntN(8) {
		case 0:
			_, _ = a.ask(opList, "sys/kernel/slab", request{Do: "list", Path: a.path("")})
		case 1:
			_, _ = a.ask(opList, name, request{Do: "list", Path: a.path(name)}, syscall.ENOENT)
		case 2:
			_, _ = a.ask(opRead, "proc/slabinfo", request{Do: "cat", Path: a.dir + "/proc/slabinfo"})
		default:
			what := name + "/" + files[a.rng.IntN(len(files))]
			_, _ = a.ask(opRead, what, request{Do: "cat", Path: a.path(what)}, syscall.ENOENT, syscall.ENODEV)
		}
		a.pause(time.Millisecond)
	}
}

// allocator allocates a batch from one cache and frees it in another order. From a
// cache that stays it lets other allocators free some.
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
		_ = a.do(opAllocate, c.Name(), func() error { return a.batch(c, c == stays) }, errDead, errLimit)
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
	o, ok := newObject(c, a.tags.Add(1<<8)) // more than it has words
	if !ok {
		return o, errLimit
	}
	return o, nil
}

// release looks at an object and frees it: through its cache, or if that was
// destroyed through another that shares its core. As long as the object is live,
// there is one.
func (w *world) release(o object) {
	if !o.intact() {
		w.violate("an object of cache %q at %p was handed out twice, or written by others", o.cache.Name(), o.at)
	}
	for c := o.cache; ; {
		if !errors.Is(freeThrough(c, o), errDead) {
			return
		}
		caches := w.a.Caches()
		i := slices.IndexFunc(caches, func(d *alloc.Cache) bool { return d.ID() == o.cache.ID() })
		if i < 0 {
			w.violate("cache %q was destroyed with a live object, and no other has it", o.cache.Name())
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

// newCache makes a cache with a name that the actor alone uses.
func (a *actor) newCache(name string, size int, flags alloc.Flags) (c *alloc.Cache) {
	_ = a.do(opCreate, name, func() (err error) {
		c, err = a.a.NewCache(name, size, alloc.CacheOptions{Flags: flags, ShellDelete: true})
		return err
	})
	return c
}

// sharer has two names share one core: one of them can be destroyed while objects
// are live, which then are the other's; and its link goes, but not the directory.
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
			a.violate("caches of one size have the directories %q and %q", cs[0].ID(), cs[1].ID())
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
		if _, err := a.ask(opList, names[gone], request{Do: "list", Path: a.path(names[gone])}, syscall.ENOENT); err == nil {
			a.violate("the link %q is there after its destroy", names[gone])
		}
		file := c.Name() + "/cpu_partial"
		_, _ = a.ask(opStore, file, request{"echo", a.path(file), "10\n"})
		for _, o := range objs {
			a.release(o)
		}
		a.destroy(c)
		a.pause(time.Millisecond)
	}
}

// destroy destroys a cache that has no live objects, or shares its core, and lets
// the kernel hear of it.
func (a *actor) destroy(c *alloc.Cache) {
	unheard := a.unheard()
	if a.rng.IntN(2) == 0 {
		_ = a.do(opDestroy, c.Name(), c.Destroy)
	} else {
		_, _ = a.ask(opShellDestroy, c.Name(), request{"echo", a.module("delete_cache"), c.Name()})
	}
	if a.unheard() != unheard {
		time.Sleep(time.Second) // the kernel may believe in the directory for so long
	}
}

// refused follows a cache of its own through its life: with live objects it cannot
// be destroyed and loses nothing, without them it can, and then nothing is left of
// it: not its name, its directory, or the use of a descriptor opened before.
func refused(ctx context.Context, a *actor) {
	name := fmt.Sprint("busy", a.number)
	file := name + "/cpu_partial"
	shellDestroy := request{"echo", a.module("delete_cache"), name}
	for ctx.Err() == nil {
		c := a.newCache(name, a.size(), alloc.NoMerge)
		if c == nil {
			return
		}
		if _, err := a.ask(opOpen, file, request{Do: "openw", Path: a.path(file)}); err != nil {
			return
		}
		var objs []object
		for range 1 + a.rng.IntN(100) {
			if o, err := a.allocate(c); err == nil {
				objs = append(objs, o)
			}
		}
		if len(objs) > 0 {
			if err := a.do(opRefuse, name, c.Destroy, alloc.ErrBusy); err == nil {
				a.violate("cache %q was destroyed with %d live objects", name, len(objs))
				return
			}
			if _, err := a.ask(opRefuse, name, shellDestroy, syscall.EBUSY); err == nil {
				a.violate("delete_cache destroyed %q with %d live objects", name, len(objs))
				return
			}
			_, _ = a.ask(opStore, file, request{Do: "write", Data: "10\n"})
		}
		for _, o := range objs {
			a.release(o)
		}
		a.destroy(c)
		if _, err := a.ask(opStore, file, request{Do: "write", Data: "10\n"}, syscall.ENODEV); err == nil {
			a.violate("a descriptor of %q still works after the cache's destroy", file)
		}
		_, _ = a.ask(opClose, file, request{Do: "close"})
		if _, err := a.ask(opList, name, request{Do: "list", Path: a.path(name)}, syscall.ENOENT); err == nil {
			a.violate("the directory of %q is there after its destroy", name)
		}
		a.pause(time.Millisecond)
	}
}

// unheard returns how often a destroy went on before the kernel had heard of it.
func (w *world) unheard() uint64 {
	s := w.srv.Stats()
	return s.Late + s.Skipped
}

// hoarder goes on allocating at the memory limit. All hoarders rest at the same
// time, so that others get memory too.
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
						a.atLimit.Add(1)
						return err
					}
					hoard = append(hoard, o)
				}
				return nil
			}, errLimit) != nil {
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

// attacher lets a tree come and go.
func attacher(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		s := newCensus(a.world)
		var detach func()
		_ = a.do(opAttach, "a tree", func() error { detach = a.a.Attach(s); return nil })
		a.pause(4 * time.Millisecond)
		_ = a.do(opDetach, "a tree", func() error { detach(); return nil })
		a.pause(4 * time.Millisecond)
	}
}

// plugger is the third party: while it waits for the lock, no reader gets it. As
// CPUs do, it takes its time to come and go.
func plugger(ctx context.Context, a *actor) {
	h := a.a.Hotplug()
	for ctx.Err() == nil {
		_ = a.do(opHotplug, "cpu_hotplug_lock", func() error {
			h.Lock()
			defer h.Unlock()
			a.pause(20 * time.Microsecond)
			return nil
		})
		a.pause(100 * time.Microsecond)
	}
}

// counter reads which CPUs are online and keeps it so for a while. So the writer
// has to wait also where one processor runs one goroutine after the other.
func counter(ctx context.Context, a *actor) {
	h := a.a.Hotplug()
	for ctx.Err() == nil {
		_ = a.do(opOnline, "cpu_hotplug_lock", func() error {
			h.RLock()
			defer h.RUnlock()
			a.pause(100 * time.Microsecond)
			return nil
		})
		a.pause(time.Millisecond)
	}
}

func newRNG(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
