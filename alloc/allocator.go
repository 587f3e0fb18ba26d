package alloc

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"

	"slabfs/alloc/rcu"
	"slabfs/internal/cpu"
	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
	"slabfs/workqueue"
)

// An Engine is how a CPU's sheaf is worked on.
type Engine uint8

// Engines.
const (
	Auto Engine = iota // the best that this build and this machine have
	RSeq               // restartable sequences: Linux 5.10 on amd64
	Lock               // a lock for each CPU and cache
)

// String returns the engine's name as parameters/percpu_engine shows it.
func (e Engine) String() string {
	switch e {
	case RSeq:
		return "rseq"
	case Lock:
		return "lock"
	case Auto:
		return "auto"
	default:
		return fmt.Sprintf("Engine(%d)", uint8(e))
	}
}

// Options of an Allocator. The zero value has no limit and chooses the engine.
type Options struct {
	MemoryLimit int64        // bytes of slabs and of Bytes beyond 8 KiB; 0: none; see SetMemoryLimit
	Engine      Engine       // Auto: what the environment's SLABFS_PERCPU says, lock or rseq, or else the best that is there
	Merge       bool         // caches of one size share slabs and sheaves, as in Linux
	HugePages   bool         // SetHugePages(true), where there are any
	CheckLocks  bool         // check the order of locks in the whole process, from now on: for the first New of a program, since locks that are held now are not seen; a violation is reported on standard error
	Logger      *slog.Logger // reports damage that nobody's call can be blamed for; nil: slog.Default
}

// An Allocator has caches, their locks and its limit. A program may have
// several; they share address space and page tables, nothing else.
//
// Protection of fields:
//
//	I  set by New, then constant
//	S  slab_mutex (mu)
//	F  flush_lock
//	A  atomic
type Allocator struct {
	log       *slog.Logger // I
	engine    Engine       // I
	merge     bool         // I
	made      [1]uintptr   // I: what called New
	large     uint32       // I: owner of the first page of runs that Bytes hands out
	largeRest uint32       // I: owner of their other pages
	rcu       *rcu.Domain  // I
	queue     *workqueue.Queue
	giver     *workqueue.Work // gives free memory back to the system
	toRelease rcuDestroy
	maxBytes  int                         // I: maxKmalloc, to compare with. Bytes of a nil Allocator panics here: in bySize
	maxFree   int                         // I: and the same less the smallest class. The fault would end the program
	kmalloc   []*Cache                    // I: by class, see bytes.go
	bySize    [maxKmalloc/8 + 1]sizeClass // I: kmalloc by (bytes+7)/8

	hotplug   cpu.Hotplug
	flushLock lockdep.RWSem // taken for writing only; an RWSem since its waits can be interrupted
	flushBuf  []uintptr     // F

	mu       lockdep.Mutex     // slab_mutex
	caches   []*Cache          // S: not dying, oldest first
	names    map[string]*Cache // S: reserved: being made, live, or dying until unlinked
	ids      map[string]*core  // S: reserved in the same way, by cores that names may share
	trees    []*tree           // S
	under    bookings          // S: creates and destroys that do their publishing or unlinking
	deciding bookings          // S: calls of Close that may still find objects live
	unbooked *lockdep.Cond     // over mu; some bookings have come to an end
	closing  bool              // S: creates are refused
	ended    bool              // S: by a Close that ended everything but the RCU domain

	cores atomic.Pointer[[]*core] // A: of caches; replaced under mu

	limit      atomic.Int64  // A: bytes; 0: none
	used       atomic.Int64  // A: bytes reserved
	runs       atomic.Int64  // A: those of them in page runs of Bytes
	waiting    atomic.Int64  // A: those of them in slabs that wait for a grace period
	areas      atomic.Int64  // A: bytes of the per-CPU areas that were opened
	damage     atomic.Uint64 // A: objects that could not go back to their slab
	nils       atomic.Uint64 // A: calls that returned nil or false at the limit
	misuse     atomic.Uint64 // A: uses of a released core
	early      atomic.Uint64 // A: releases while an unlink was booked
	refused    atomic.Uint64 // A: creates that met a dying cache of their name
	lostPlaces atomic.Uint64 // A: per-CPU areas that could not be fenced and are never used again
	reclaims   atomic.Uint64 // A: reclaims that ended
	returned   atomic.Uint64 // A: slabs given back after a grace period
	reclaimer  reclaimer
	active     activeCores

	order           order // I: of destroy
	publishesLocked bool  // I: fault.PublishUnderLocks
}

// New returns an allocator with the caches kmalloc-8 to kmalloc-8k. What mlockall
// and limits of the process mean for it is in docs/operating.md.
//
// Errors: ErrNotBuilt for an engine that is not there, ErrInvalid for an option
// that makes no sense, ErrNoMemory where not even address space can be had.
func New(o Options) (*Allocator, error) {
	if o.MemoryLimit < 0 {
		return nil, fmt.Errorf("new allocator: memory limit of %d bytes: %w", o.MemoryLimit, ErrInvalid)
	}
	if o.CheckLocks {
		lockdep.Enable()
	}
	for _, reserve := range []func() error{pages.Reserve, percpu.Reserve} {
		if err := reserve(); err != nil {
			return nil, fmt.Errorf("new allocator: %w: %w", ErrNoMemory, err)
		}
	}
	if o.HugePages {
		_ = pages.SetHuge(pages.HugeAlways) // a build or a system without them is none the worse
	}
	engine, err := chooseEngine(o.Engine, os.Getenv("SLABFS_PERCPU"))
	if err != nil {
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	a := &Allocator{log: o.Logger, engine: engine, merge: o.Merge, names: make(map[string]*Cache), ids: make(map[string]*core)}
	runtime.Callers(2, a.made[:])
	for _, number := range []*uint32{&a.large, &a.largeRest} {
		if *number, err = newNumber(); err != nil {
			return nil, fmt.Errorf("new allocator: %w", err)
		}
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	a.chooseOrder(fault.Injected())
	a.hotplug.Init(cpu.Possible())
	a.flushLock.Init(lockdep.Flush)
	a.mu.Init(lockdep.SlabMutex)
	a.unbooked = lockdep.NewCond(&a.mu)
	a.reclaimer.mu.Init(lockdep.Reclaim)
	a.active.mu.Init(lockdep.Leaf)
	a.cores.Store(new([]*core))
	a.limit.Store(o.MemoryLimit)
	if err := a.hotplug.Register(a.hotplugState()); err != nil {
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	if a.rcu, err = rcu.New(rcu.Options{Sequences: engine == RSeq}); err != nil {
		return nil, fmt.Errorf("new allocator: %w: %w", ErrNoMemory, err)
	}
	a.queue = workqueue.New("slab", workqueue.Options{})
	a.giver = a.queue.NewWork(a.giveMemory)
	a.initRCUDestroy()
	a.tellReaders()
	if err := a.newKmalloc(); err != nil {
		_ = a.Close() // if that fails too, for want of a fence, what is left is never used again
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	a.enlist()
	return a, nil
}

// chooseEngine lets an option go before the environment, and both before Auto.
// The kernel is asked only where the answer may be RSeq: a filter may kill who asks.
func chooseEngine(option Engine, env string) (Engine, error) {
	if option == Auto {
		switch env {
		case "":
		case "lock":
			option = Lock
		case "rseq":
			option = RSeq
		default:
			return 0, fmt.Errorf("SLABFS_PERCPU=%q: want lock or rseq: %w", env, ErrInvalid)
		}
	}
	switch option {
	case Lock:
		return Lock, nil
	case Auto, RSeq:
		err := startSequences()
		switch {
		case err == nil:
			return RSeq, nil
		case option == Auto:
			return Lock, nil
		default:
			return 0, fmt.Errorf("engine rseq: %w: %w; use engine lock, or none to have the best that is there", ErrNotBuilt, err)
		}
	default:
		return 0, fmt.Errorf("engine %d: %w", option, ErrInvalid)
	}
}

// Engine returns the engine that New chose.
func (a *Allocator) Engine() Engine { return a.engine }

// Aborts returns how often the kernel started over a sequence of the process, by
// CPU number: because the thread was preempted, migrated or signalled, or a sheaf
// was closed.
func (a *Allocator) Aborts() []uint64 {
	counts := make([]uint64, a.hotplug.Possible().Limit())
	for n := range counts {
		counts[n] = percpu.AbortCount(n)
	}
	return counts
}

// Unregistered returns how many threads of the process could not register for
// sequences. They are served by the slow path.
func (a *Allocator) Unregistered() uint64 { return rseq.Failed() }

// Hotplug returns the allocator's hotplug lock and its online CPUs.
func (a *Allocator) Hotplug() *cpu.Hotplug { return &a.hotplug }

// RCU returns the domain whose read-side sections keep the slabs of typesafe-by-RCU
// caches. Callbacks and grace periods may be used for other things too: they delay
// each other. After Close its methods panic.
func (a *Allocator) RCU() *rcu.Domain { return a.rcu }

// Caches returns the caches that can be used, oldest first: not those that are
// being made or destroyed.
func (a *Allocator) Caches() []*Cache {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]*Cache, 0, len(a.caches))
	for _, c := range a.caches {
		if !c.making {
			list = append(list, c)
		}
	}
	return list
}

// SetMemoryLimit changes the limit of MemoryUsed in bytes; 0 or less is none. It
// counts whole slabs, and whole pages of Bytes. It does not count page tables
// (MetadataBytes), sheaves and barns (PerCPUBytes), or free pages that the system
// has not got back yet (part of MemoryMapped).
//
// A limit below MemoryUsed takes nothing away. What is free in slabs can still be
// allocated. Where a call needs new pages, it first turns free objects of all
// caches into free pages; if it would still exceed the limit, it returns nil. So
// do all such calls until enough is freed.
func (a *Allocator) SetMemoryLimit(bytes int64) { a.limit.Store(max(bytes, 0)) }

// MemoryLimit returns the limit in bytes, or 0 if there is none.
func (a *Allocator) MemoryLimit() int64 { return a.limit.Load() }

// MemoryUsed returns the bytes that count against the limit: slabs, and page runs of Bytes.
func (a *Allocator) MemoryUsed() int64 { return a.used.Load() }

// MemoryLarge returns those of MemoryUsed in page runs: Bytes of more than 8 KiB.
func (a *Allocator) MemoryLarge() int64 { return a.runs.Load() }

// MemoryRefused returns how many calls got no memory: Alloc and Bytes that
// returned nil, AllocBulk and Prefill that returned false.
func (a *Allocator) MemoryRefused() uint64 { return a.nils.Load() }

// MemoryWaiting returns those of MemoryUsed in empty slabs of typesafe-by-RCU caches that
// wait for a grace period. No cache counts them as its own.
func (a *Allocator) MemoryWaiting() int64 { return a.waiting.Load() }

// Damage returns how many objects could not go back to their slab because they
// were free there already, or no objects: each was freed twice, or freed by an
// address into it.
func (a *Allocator) Damage() uint64 { return a.damage.Load() }

// Misuse returns how often a released cache was looked at: always 0, unless
// the order of destroy is broken.
func (a *Allocator) Misuse() uint64 { return a.misuse.Load() }

// EarlyReleases returns how often a cache was released before all unlinks of it had
// ended: always 0, unless the order of destroy is broken.
func (a *Allocator) EarlyReleases() uint64 { return a.early.Load() }

// RefusedDying returns how many creates failed with ErrExist because a cache of
// the name was being destroyed.
func (a *Allocator) RefusedDying() uint64 { return a.refused.Load() }

// bookings counts operations under way that others may wait for: on
// Allocator.unbooked, until n is 0.
//
// Protection of fields: slab_mutex.
type bookings struct{ n int }

func (b *bookings) add(n int) { b.n += n }

// unbook ends n of the bookings.
//
// Preconditions: a.mu is held.
func (a *Allocator) unbook(b *bookings, n int) {
	if b.n -= n; b.n == 0 {
		a.unbooked.Broadcast()
	}
}
