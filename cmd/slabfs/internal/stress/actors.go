package stress

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"slabfs/alloc"
)

// An actorKind describes one kind of actor: how many there are by default,
// whether each has a client process, its line in the help text, and what each
// does until the context ends.
type actorKind struct {
	count  int
	client bool
	about  string
	run    func(context.Context, *actor)
}

// actorKinds are all kinds. Most of them fight for four cache names, s0 to s3.
var actorKinds = map[string]actorKind{
	"create":       {2, false, "creates s0 to s3 through the library", creator},
	"destroy":      {1, false, "destroys s0 to s3, by name or by handle", destroyer},
	"new_cache":    {1, true, "creates s0 to s3 by echo > new_cache", shellCreator},
	"delete_cache": {1, true, "destroys s0 to s3 by echo > delete_cache", shellDestroyer},
	"store":        {5, true, "writes cpu_partial, min_partial, sheaf_capacity and shrink of s0 to s3", storer},
	"read":         {1, true, "reads all files of s0 to s3, and lists directories", reader},
	"slabinfo":     {1, true, "reads proc/slabinfo, a walk over all caches", slabinfoReader},
	"alloc":        {2, false, "allocates, stamps, checks and frees objects of s0 to s3", allocator},
	"busy":         {1, true, "destroys a cache with live objects, which must fail, and without, which must leave nothing", refused},
	"share":        {1, true, "destroys one of two names of one cache (an alias) while objects are live", sharer},
	"destroy_rcu":  {3, true, "creates and destroys typesafe-by-RCU caches, several at a time", rcuDestroyer},
	"replace":      {1, false, "replaces and frees objects of a typesafe-by-RCU cache under readers, then destroys it", updater},
	"lookup":       {2, false, "holds objects of replace in RCU sections, and checks that they keep their type", lookup},
	"cpus":         {1, true, "takes CPUs offline and brings them back, through the library and by echo > cpuN/online", cpus},
	"hoard":        {4, false, "allocates at the memory limit", hoarder},
	"attach":       {1, false, "attaches and detaches a second tree", attacher},
	"online":       {1, false, "reads which CPUs are online, and keeps that unchanged for a while", onlooker},
	"hotplug":      {1, false, "takes the hotplug lock for writing all the time", plugger},
}

const contested = 4 // names

func (a *actor) contestedName() string { return fmt.Sprint("s", a.rng.IntN(contested)) }

var contestedName = regexp.MustCompile(`^s\d$`)

// size returns a power of two from 8 to 1024.
func (a *actor) size() int { return 8 << a.rng.IntN(8) }

// flags returns flags at random: a third of the caches may share their core
// with others, a third may not, and a third are typesafe by RCU.
func (a *actor) flags() alloc.Flags {
	return []alloc.Flags{0, alloc.NoMerge, alloc.TypesafeByRCU}[a.rng.IntN(3)]
}

// flagNames are the flags as new_cache spells them.
var flagNames = map[alloc.Flags]string{alloc.NoMerge: "flags=no_merge", alloc.TypesafeByRCU: "flags=typesafe_by_rcu"}

// pause sleeps for up to d, so that other actors get the CPU.
func (a *actor) pause(d time.Duration) { time.Sleep(time.Duration(a.rng.Int64N(int64(d)))) }

// cache returns one of the contested caches at random, nil if there is none.
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
			_, err := a.a.NewCache(name, a.size(), alloc.CacheOptions{Flags: a.flags(), ShellDelete: true})
			return err
		})
		a.pause(200 * time.Microsecond)
	}
}

func shellCreator(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		name := a.contestedName()
		_, _ = a.ask(opShellCreate, name, request{"echo", a.module("new_cache"), fmt.Sprintln(name, a.size(), flagNames[a.flags()])})
		a.pause(200 * time.Microsecond)
	}
}

func destroyer(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		if a.rng.IntN(2) == 0 {
			name := a.contestedName()
			_ = a.do(opDestroy, name, func() error { return a.a.DestroyName(name) })
		} else if c := a.cache(); c != nil {
			_ = a.do(opDestroy, c.Name(), func() error { return destroyHandle(c) })
		}
		a.pause(2 * time.Millisecond)
	}
}

func shellDestroyer(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		name := a.contestedName()
		_, _ = a.ask(opShellDestroy, name, request{"echo", a.module("delete_cache"), name})
		a.pause(2 * time.Millisecond)
	}
}

// errDead means that somebody else destroyed the cache first. The library
// reports it by a panic.
var errDead = fmt.Errorf("the cache was destroyed before")

func destroyHandle(c *alloc.Cache) (err error) {
	defer func() { err = deadOr(recover(), "Destroy", c, err) }()
	return c.Destroy()
}

// deadOr turns the panic of an operation on a destroyed cache into errDead. It
// panics again with any other value.
func deadOr(p any, op string, c *alloc.Cache, err error) error {
	switch p {
	case nil:
		return err
	case fmt.Sprintf("slabfs: %s on cache %q after its Destroy", op, c.Name()):
		return errDead
	}
	panic(p)
}

// storer opens a file of a contested cache and writes to it for a while, or
// until the file is gone.
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
		if _, err := a.ask(opOpen, what, request{Do: "openw", Path: a.path(what)}); err != nil {
			a.pause(200 * time.Microsecond)
			continue
		}
		for range 1 + a.rng.IntN(64) {
			if _, err := a.ask(opStore, what, request{Do: "write", Data: data}); err != nil || ctx.Err() != nil {
				break
			}
		}
		_, _ = a.ask(opClose, what, request{Do: "close"})
	}
}

// files are the files of a cache that a reader reads.
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
			_, _ = a.ask(opListCache, name, request{Do: "list", Path: a.path(name)})
		default:
			what := name + "/" + files[a.rng.IntN(len(files))]
			_, _ = a.ask(opRead, what, request{Do: "cat", Path: a.path(what)})
		}
		a.pause(time.Millisecond)
	}
}

func slabinfoReader(ctx context.Context, a *actor) {
	for ctx.Err() == nil {
		_, _ = a.ask(opSlabinfo, "proc/slabinfo", request{Do: "cat", Path: a.config.Dir + "/proc/slabinfo"})
		a.pause(4 * time.Millisecond)
	}
}

// attacher attaches and detaches a second tree.
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

// plugger is the third party of the deadlock: while it waits for the lock, no
// reader gets the lock. It takes its time, as CPUs do when they come and go.
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

// cpus takes CPUs offline and brings them back. The last CPU refuses.
func cpus(ctx context.Context, a *actor) {
	possible := slices.Collect(a.a.Hotplug().Possible().All())
	for ctx.Err() == nil {
		n := possible[a.rng.IntN(len(possible))]
		what := fmt.Sprint("cpu", n)
		if a.rng.IntN(2) == 0 {
			_ = a.do(opOffline, what, func() error { return a.a.SetOnline(n, false) })
			a.pause(2 * time.Millisecond)
			_ = a.do(opOnlineAgain, what, func() error { return a.a.SetOnline(n, true) })
		} else {
			file := a.config.Dir + "/sys/devices/system/cpu/" + what + "/online"
			_, _ = a.ask(opShellOffline, what, request{"echo", file, "0\n"})
			a.pause(2 * time.Millisecond)
			_, _ = a.ask(opShellOnline, what, request{"echo", file, "1\n"})
		}
		a.pause(4 * time.Millisecond)
	}
}

// onlooker reads which CPUs are online and holds the hotplug lock for a while.
// So a writer has to wait even on one processor, which runs one goroutine after
// the other.
func onlooker(ctx context.Context, a *actor) {
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
