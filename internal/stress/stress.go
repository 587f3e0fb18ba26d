package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// What Run returns when it could run: neither is a fault of the machine.
var (
	ErrViolation    = errors.New("violation")
	ErrInconclusive = errors.New("inconclusive")
)

// A Config says how to run.
type Config struct {
	Duration time.Duration
	Deadline time.Duration // an operation that takes longer is a violation
	Seed     uint64
	Actors   Actors
	Dir      string          // where to mount; made and removed if it is not there; "": a temporary directory
	Client   []string        // arguments with which this program calls Serve
	Out, Err io.Writer       // the table; stacks, violations, log
	Progress io.Writer       // a terminal, or nil
	Now      <-chan struct{} // closed: end at once, waiting for nobody; may be nil
}

// Actors says how many actors of each kind there are. As a flag it is a list
// like store=8,hoard=0, which changes the kinds that it names.
type Actors map[string]int

// DefaultActors is enough for a conclusive run of ten seconds on two busy CPUs.
func DefaultActors() Actors {
	n := Actors{}
	for name, k := range actorKinds {
		n[name] = k.count
	}
	return n
}

// String lists what differs from the default.
func (n Actors) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if k, ok := actorKinds[name]; ok && n[name] != k.count {
			list = append(list, fmt.Sprintf("%s=%d", name, n[name]))
		}
	}
	return strings.Join(list, ",")
}

// Set reads such a list.
func (n Actors) Set(s string) error {
	for field := range strings.SplitSeq(s, ",") {
		name, count, _ := strings.Cut(field, "=")
		if _, ok := actorKinds[name]; !ok {
			return fmt.Errorf("no actor %q, want one of %s", name, strings.Join(slices.Sorted(maps.Keys(actorKinds)), " "))
		}
		i, err := strconv.ParseUint(count, 10, 8)
		if err != nil {
			return fmt.Errorf("%q: want KIND=COUNT, with a count up to 255", field)
		}
		n[name] = int(i)
	}
	return nil
}

// Type is what a flag's usage shows.
func (Actors) Type() string { return "KIND=COUNT,..." }

// A world is one run.
//
// Protection of fields: I, set before the actors start, then constant; W, the
// watchdog's, and after its end the reporter's; A, atomic.
type world struct {
	config  Config
	a       *alloc.Allocator // I
	dir     string           // I: mount point, "" before there is one
	madeDir bool             // I
	srv     *fusefs.Server   // I
	census  *census          // I
	actors  []*actor         // I: the last one ends the run
	cancel  func()           // I: ends the run early
	began   time.Time        // I

	leaving  atomic.Bool   // A: clients are being killed
	tags     atomic.Uint64 // A: given to objects
	atLimit  atomic.Uint64 // A: allocations that the memory limit refused
	exchange chan object   // objects that wait for another actor to free them

	clock  atomic.Int64 // A: nanoseconds; see watch
	counts [kinds]counts
	misuse uint64    // W
	damage uint64    // W
	shown  time.Time // W

	mu         lockdep.Mutex
	violations int      // mu
	messages   []string // mu: the first ones
}

// An actor repeats one kind of work.
type actor struct {
	*world
	name   string
	number int // among those of its kind
	rng    *rand.Rand
	client *client // nil unless its kind has one
	call   atomic.Pointer[call]
}

// Run sets a world up, lets it run until the duration is over, ctx ends or a
// violation is found, and prints the table. It leaves no mount, no process and
// no directory behind, also when something hangs.
//
// Errors: ErrViolation, ErrInconclusive; others if it could not run.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &world{config: c, cancel: cancel, exchange: make(chan object, 64)}
	w.mu.Init(lockdep.Leaf)
	w.census = newCensus(w)
	if err := w.setUp(); err != nil {
		w.abandon()
		return fmt.Errorf("stress: %w", err)
	}
	w.began = time.Now()
	defer time.AfterFunc(c.Duration, cancel).Stop()
	stop, hung, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var watchdog sync.WaitGroup
	watchdog.Go(func() { w.watch(stop, hung) })
	go func() {
		w.act(ctx)
		w.finish()
		close(finished)
	}()
	select {
	case <-finished:
	case <-hung:
	case <-c.Now:
	}
	close(stop)
	watchdog.Wait()
	w.checkCounters()
	w.abandon() // whatever finish has left
	return w.report()
}

// memoryLimit is low enough for hoarders to reach it at once.
const memoryLimit = 16 << 20

func (w *world) setUp() (err error) {
	log := slog.New(slog.NewTextHandler(w.config.Err, nil))
	w.a, err = alloc.New(alloc.Options{MemoryLimit: memoryLimit, Merge: true, Logger: log})
	if err != nil {
		return err
	}
	// The clients are started first: to fork while serving takes more care.
	for _, name := range slices.Sorted(maps.Keys(actorKinds)) {
		for i := range w.config.Actors[name] {
			a := &actor{world: w, name: name, number: i, rng: newRNG(w.config.Seed, uint64(len(w.actors)))}
			w.actors = append(w.actors, a)
			if actorKinds[name].client {
				if a.client, err = startClient(w.config.Client, w.config.Err); err != nil {
					return err
				}
			}
		}
	}
	last := &actor{world: w, name: "end"}
	w.actors = append(w.actors, last)
	if last.client, err = startClient(w.config.Client, w.config.Err); err != nil {
		return err
	}
	w.a.Attach(w.census)
	return w.mount(log)
}

func (w *world) mount(log *slog.Logger) (err error) {
	dir := w.config.Dir
	if dir == "" {
		dir, err = os.MkdirTemp("", "slabfs-stress-")
	} else {
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil && (w.config.Dir == "" || !errors.Is(err, os.ErrExist)) {
		return err
	}
	w.dir, w.madeDir = dir, err == nil
	w.srv, err = slabattr.Mount(dir, w.a, fusefs.Options{Logger: log})
	return err
}

// act runs the actors until ctx ends.
func (w *world) act(ctx context.Context) {
	var group sync.WaitGroup
	for _, a := range w.actors[:len(w.actors)-1] {
		group.Go(func() {
			defer a.caught()
			actorKinds[a.name].run(ctx, a)
		})
	}
	group.Wait()
}

// caught turns a panic into a violation. What the actor locked stays locked.
func (a *actor) caught() {
	if p := recover(); p != nil {
		a.call.Store(nil)
		a.violate("actor %s %d: panic: %v\n%s", a.name, a.number, p, debug.Stack())
	}
}

// do performs and times one operation, which may fail with one of the allowed errors.
func (a *actor) do(k kind, what string, f func() error, allowed ...error) error {
	a.call.Store(&call{k, what, time.Duration(a.clock.Load())})
	start := time.Now()
	err := f()
	took := time.Since(start)
	a.call.Store(nil)
	refused := err != nil && slices.ContainsFunc(allowed, func(e error) bool { return errors.Is(err, e) })
	a.note(k, took, refused)
	if errors.Is(err, errClient) && a.leaving.Load() {
		return err
	}
	if err != nil && !refused {
		want := "success"
		for _, e := range allowed {
			want += ", or " + strconv.Quote(e.Error())
		}
		a.violate("%s %q: %v; want %s", kindNames[k], what, err, want)
	}
	return err
}

// ask is do for an operation of the client.
func (a *actor) ask(k kind, what string, q request, allowed ...error) (data string, err error) {
	err = a.do(k, what, func() (err error) {
		data, err = a.client.do(q)
		return err
	}, allowed...)
	return data, err
}

// finish empties the world and compares what is left with nothing.
func (w *world) finish() {
	a := w.actors[len(w.actors)-1]
	defer a.caught()
	close(w.exchange)
	for o := range w.exchange {
		w.release(o)
	}
	for _, c := range w.a.Caches() {
		if n := c.Stats().Objects; n != 0 {
			w.violate("cache %q: %d objects are live after all were freed: lost", c.Name(), n)
		}
	}
	w.compare(a)
	_ = a.do(opEnd, "close the allocator", w.a.Close)
	w.compare(a)
	if n := w.a.MemoryUsed(); n != 0 {
		w.violate("%d bytes are in use by a closed allocator", n)
	}
	for _, a := range w.actors {
		if a.client != nil {
			a.client.stop()
		}
	}
	for _, a := range w.actors {
		if a.client != nil && !a.client.gone(5*time.Second) {
			w.violate("client %d does not end", a.client.cmd.Process.Pid)
		}
	}
	_ = a.do(opEnd, "unmount", func() error { return w.srv.Unmount(context.Background()) })
}

// compare wants the files, the census and the allocator to show the same caches,
// and no other directory than theirs.
func (w *world) compare(a *actor) {
	var want []string
	for _, c := range w.a.Caches() {
		want = append(want, c.Name(), c.ID())
	}
	slices.Sort(want)
	want = slices.Compact(want)
	files, err := a.ask(opList, "sys/kernel/slab", request{Do: "list", Path: w.path("")})
	if err != nil {
		return
	}
	if got := strings.Fields(files); !slices.Equal(got, want) {
		w.violate("the mount shows the caches %q; want %q", got, want)
	}
	if got := w.census.names(); !slices.Equal(got, want) {
		w.violate("the second tree shows the caches %q; want %q", got, want)
	}
}

// path returns where the mount shows a cache, or one of its files.
func (w *world) path(name string) string { return w.dir + "/sys/kernel/slab/" + name }

// module returns where the mount shows a control file.
func (w *world) module(name string) string { return w.dir + "/sys/module/slabfs/" + name }

// abandon ends what is left, without waiting for anybody who may hang.
func (w *world) abandon() {
	w.leaving.Store(true)
	for _, a := range w.actors {
		if a.client != nil {
			a.client.kill()
		}
	}
	if w.srv != nil {
		abort(w.srv.Dir())
	}
	for _, a := range w.actors {
		if a.client != nil && !a.client.gone(2*time.Second) {
			fmt.Fprintf(w.config.Err, "stress: client %d does not die\n", a.client.cmd.Process.Pid)
		}
	}
	if w.madeDir {
		if err := os.Remove(w.dir); err != nil {
			fmt.Fprintln(w.config.Err, "stress:", err)
		}
	}
}
