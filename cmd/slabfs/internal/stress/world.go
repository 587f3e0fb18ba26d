package stress

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"slabfs/alloc"
	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// A worldConfig is what the world is told.
type worldConfig struct {
	Seed    uint64
	Actors  Actors
	Dir     string   // where to mount
	Made    bool     // Dir was made for the run
	Lockdep bool     // check the order of locks
	Inject  string   // the mistake to make, "" for none
	Command []string // arguments with which this program calls Serve
}

// A world is one run, as seen by the world's process.
//
// Protection of fields: I, set before the actors start, then constant; A,
// atomic.
type world struct {
	config worldConfig
	a      *alloc.Allocator // I
	srv    *fusefs.Server   // I
	census *census          // I
	actors []*actor         // I: the last one ends the run
	cancel func()           // I: ends the actors
	began  time.Time        // I

	leaving     atomic.Bool   // A: clients are being killed
	tags        atomic.Uint64 // A: given to objects
	rcuDestroys atomic.Int64  // A: destroys of typesafe-by-RCU caches under way
	board       board         // A
	exchange    chan object   // objects that wait for another actor to free them
	out         chan message  // for the judge

	ended    [ops]opCounts           // A
	counters [counters]atomic.Uint64 // A: those that neither the allocator nor the trees count
}

// An opCounts is an opState that is still being counted.
type opCounts struct {
	outcomes [outcomes]atomic.Uint64
	slowest  atomic.Int64
}

// An actor repeats one kind of work.
type actor struct {
	*world
	name   string
	number int // among the actors of its kind
	index  int // among all actors
	rng    *rand.Rand
	client *client // nil unless its kind has one
	calls  uint64
	call   atomic.Pointer[call]
}

// memoryLimit is low enough for hoarders to reach it at once.
const memoryLimit = 16 << 20

// runWorld is the main function of the world's process. It returns an error if
// the world could not begin.
func runWorld(c worldConfig) error {
	// Ignore the signals that arrive when the other processes are gone: obey
	// notices their end. SIGHUP arrives if this process is stopped then.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	if c.Inject != "" {
		if err := fault.Inject(c.Inject); err != nil {
			return fmt.Errorf("stress: %w", err)
		}
	}
	if c.Lockdep {
		lockdep.Enable()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &world{config: c, cancel: cancel, exchange: make(chan object, 64), out: make(chan message, 1<<10)}
	lockdep.SetOutput(func(report string) { w.tell(message{Order: report}) })
	w.census = newCensus(w)
	if err := w.setUp(); err != nil {
		w.abandon()
		return fmt.Errorf("stress: %w", err)
	}
	w.began = time.Now()
	if err := json.NewEncoder(os.Stdout).Encode(message{Hello: os.Getpid()}); err != nil {
		w.abandon()
		return fmt.Errorf("stress: tell the judge: %w", err)
	}
	over, said := make(chan struct{}), make(chan struct{})
	go w.obey(over)
	go w.report(over, said)
	w.act(ctx)
	w.finish()
	close(over)
	<-said
	return nil
}

func (w *world) setUp() (err error) {
	log := slog.New(slog.NewTextHandler(&firstLines{to: os.Stderr}, nil))
	w.a, err = alloc.New(alloc.Options{MemoryLimit: memoryLimit, Merge: true, Logger: log})
	if err != nil {
		return err
	}
	// Start the clients first: forking while serving takes more care.
	for _, name := range slices.Sorted(maps.Keys(actorKinds)) {
		for i := range w.config.Actors[name] {
			a := &actor{world: w, name: name, number: i, index: len(w.actors), rng: newRNG(w.config.Seed, uint64(len(w.actors)))}
			w.actors = append(w.actors, a)
			if actorKinds[name].client {
				if a.client, err = startClient(w.config.Command); err != nil {
					return err
				}
			}
		}
	}
	last := &actor{world: w, name: "end", index: len(w.actors)}
	w.actors = append(w.actors, last)
	if last.client, err = startClient(w.config.Command); err != nil {
		return err
	}
	w.a.Attach(w.census)
	w.srv, err = slabattr.Mount(w.config.Dir, w.a, fusefs.Options{Logger: log})
	return err
}

// firstLines passes on the first lines only. A failure usually repeats, and it
// is counted too.
type firstLines struct {
	to io.Writer
	n  atomic.Int64
}

func (f *firstLines) Write(p []byte) (int, error) {
	if f.n.Add(1) > 10 {
		return len(p), nil
	}
	return f.to.Write(p)
}

// obey does what the judge asks for. If the judge is gone before the run is
// over, nobody is left to report to, and the process ends.
func (w *world) obey(over <-chan struct{}) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case askEnd:
			w.cancel()
		case askStacks:
			w.out <- message{Stacks: stacks()}
		}
	}
	select {
	case <-over:
	default:
		w.abandon()
		os.Exit(1)
	}
}

// report sends the judge the counts and the other messages until over is
// closed.
func (w *world) report(over <-chan struct{}, said chan<- struct{}) {
	defer close(said)
	out := bufio.NewWriter(os.Stdout)
	enc := json.NewEncoder(out)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ending := false; !ending; {
		select {
		case m := <-w.out:
			_ = enc.Encode(m)
			continue
		case <-tick.C:
		case <-over:
			ending = true
		}
		s := w.state() // every example is told before it is counted
		for len(w.out) > 0 {
			_ = enc.Encode(<-w.out)
		}
		_ = enc.Encode(message{State: s, Bye: ending})
		if out.Flush() != nil {
			return // the judge is gone; obey ends the process
		}
	}
}

// tell sends a message to the judge, unless the judge cannot keep up. It never
// waits.
func (w *world) tell(m message) {
	select {
	case w.out <- m:
	default:
	}
}

func (w *world) state() *state {
	var s state
	for _, a := range w.actors {
		if c := a.call.Load(); c != nil {
			s.Calls = append(s.Calls, *c)
		}
	}
	for o := range w.ended {
		for i := range w.ended[o].outcomes {
			s.Ops[o].Outcomes[i] = w.ended[o].outcomes[i].Load()
		}
		s.Ops[o].Slowest = w.ended[o].slowest.Load()
	}
	for i := range w.counters {
		s.Counters[i] = w.counters[i].Load()
	}
	caches, batches := w.a.RCUReleases()
	tree, srv := w.srv.Tree().Stats(), w.srv.Stats()
	for i, n := range map[counter]uint64{
		misuse: w.a.Misuse(), early: w.a.EarlyReleases(), outlived: tree.Outlived, damage: w.a.Damage(), wrongOrder: lockdep.Violations(),
		storesAtDrain: tree.StoresAtDrain, drainsWaited: tree.Waited, refusedDying: w.a.RefusedDying(), writersWaited: w.a.Hotplug().WritersWaited(),
		rcuTogether: caches - batches, notified: srv.Notified, late: srv.Late, skipped: srv.Skipped,
	} {
		s.Counters[i] = n
	}
	return &s
}

// maxExamples bounds how many examples of a counter the judge is told.
const maxExamples = 3

// saw counts what an actor has seen.
func (w *world) saw(c counter, format string, args ...any) {
	if w.counters[c].Load() < maxExamples {
		w.tell(message{Example: &example{Op: ops, Counter: c, What: fmt.Sprintf(format, args...)}})
	}
	w.counters[c].Add(1)
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

// caught counts a panic. Locks that the actor held stay locked.
func (a *actor) caught() {
	if p := recover(); p != nil {
		a.call.Store(nil)
		a.saw(panics, "actor %s %d: panic: %v\n%s", a.name, a.number, p, debug.Stack())
	}
}

// do performs and times one operation.
func (a *actor) do(o op, what string, f func() error) error {
	a.calls++
	a.call.Store(&call{a.index, a.calls, o, what})
	start := time.Now()
	err := f()
	took := time.Since(start)
	a.call.Store(nil)
	if errors.Is(err, errClient) && a.leaving.Load() {
		return err
	}
	how, n := outcomeOf(err), &a.ended[o]
	if n.outcomes[how].Load() == 0 || how == otherwise && n.outcomes[how].Load() < maxExamples {
		a.tell(message{Example: &example{Op: o, Outcome: how, What: what, Error: fmt.Sprint(err)}})
	}
	n.outcomes[how].Add(1)
	for {
		old := n.slowest.Load()
		if int64(took) <= old || n.slowest.CompareAndSwap(old, int64(took)) {
			return err
		}
	}
}

// The errors of each outcome, as an error of the library or as a number.
var errorsOf = [outcomes][]error{
	exists:   {alloc.ErrExist, syscall.EEXIST},
	missing:  {alloc.ErrNotExist, syscall.ENOENT},
	busy:     {alloc.ErrBusy, syscall.EBUSY},
	gone:     {errDead, syscall.ENODEV},
	noMemory: {errLimit},
	detached: {fusefs.ErrDetached},
}

func outcomeOf(err error) outcome {
	if err == nil {
		return done
	}
	for o, list := range errorsOf {
		for _, e := range list {
			if errors.Is(err, e) {
				return outcome(o)
			}
		}
	}
	return otherwise
}

// ask is do for an operation of the actor's client.
func (a *actor) ask(o op, what string, q request) (data string, err error) {
	err = a.do(o, what, func() (err error) {
		data, err = a.client.do(q)
		return err
	})
	return data, err
}

// path returns the path of a cache in the mount, or of one of its files.
func (w *world) path(name string) string { return w.config.Dir + "/sys/kernel/slab/" + name }

// module returns the path of a control file in the mount.
func (w *world) module(name string) string { return w.config.Dir + "/sys/module/slabfs/" + name }

func newRNG(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
