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

// An Engine is how Alloc and Free keep threads apart on a CPU's sheaf.
type Engine uint8

// Engines.
const (
	Auto Engine = iota // the best engine that this build and this machine have
	RSeq               // restartable sequences; needs Linux 5.10 on amd64
	Lock               // a lock for each CPU and cache; works everywhere
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
	// MemoryLimit is the limit in bytes; see SetMemoryLimit. 0 is none.
	MemoryLimit int64

	// Engine is how CPUs' sheaves are used. Auto takes the value of the
	// environment variable SLABFS_PERCPU, lock or rseq. If that is unset,
	// it takes the best engine that this build and this machine have.
	Engine Engine

	// Merge lets caches of one size share slabs and sheaves, as Linux does.
	Merge bool

	// HugePages asks for huge pages, as SetHugePages(true) does, and
	// ignores an error.
	HugePages bool

	// CheckLocks checks the order of locks in the whole process from now
	// on, and reports a violation on standard error. Set it in the first
	// New of a program: locks that are held already are not seen.
	CheckLocks bool

	// Logger reports damage that was not the fault of the call that found
	// it, and failures that no call returns. nil is slog.Default.
	Logger *slog.Logger
}

// An Allocator is a set of caches with a memory limit. It may be used from any
// goroutine. A program may have several allocators. They share address space,
// page tables and per-CPU regions, and nothing else.
type Allocator struct {
	// Protection of fields:
	//
	//	I  set by New, then constant
	//	S  slab_mutex (mu)
	//	F  flush_lock
	//	A  atomic

	log       *slog.Logger // I
	engine    Engine       // I
	merge     bool         // I
	made      [1]uintptr   // I: the caller of New
	large     uint32       // I: owner of the first page of each page run of Bytes
	largeRest uint32       // I: owner of the other pages of these runs
	rcu       *rcu.Domain  // I
	queue     *workqueue.Queue
	giver     *workqueue.Work // gives free memory back to the system
	toRelease rcuDestroy

	// Sequences load these two first, so that a call on a nil Allocator
	// panics. The fault of a load from bySize would end the program.
	maxBytes int // I: maxKmalloc
	maxFree  int // I: maxKmalloc less the smallest class

	kmalloc []*Cache                    // I: by class, see bytes.go
	bySize  [maxKmalloc/8 + 1]sizeClass // I: kmalloc by (bytes+7)/8

	hotplug   cpu.Hotplug
	flushLock lockdep.RWSem // taken for writing only; an RWSem because a wait for it can be interrupted
	flushBuf  []uintptr     // F

	mu       lockdep.Mutex     // slab_mutex
	caches   []*Cache          // S: not dying, oldest first
	names    map[string]*Cache // S: reserved names: of caches being made, live, or dying and not yet unlinked
	ids      map[string]*core  // S: reserved ids of cores that names may share
	trees    []*tree           // S
	under    bookings          // S: creates that publish, destroys that unlink
	deciding bookings          // S: calls of Close that may still find objects live
	unbooked *lockdep.Cond     // over mu; signaled when some bookings have ended
	closing  bool              // S: creates are refused
	ended    bool              // S: a Close ended everything except the RCU domain

	cores atomic.Pointer[[]*core] // A: of caches; replaced under mu

	limit      atomic.Int64  // A: bytes; 0: none
	used       atomic.Int64  // A: bytes reserved
	runs       atomic.Int64  // A: the part of used that is in page runs of Bytes
	waiting    atomic.Int64  // A: the part of used that is in slabs waiting for a grace period
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

// New returns an allocator with the caches kmalloc-8 to kmalloc-8k. The first
// New of the process reserves address space; docs/operating.md explains what
// mlockall and limits of the process mean for it.
//
// Errors:
//
//   - ErrNotBuilt: this build or this machine does not have the engine.
//   - ErrInvalid: the limit is negative, or Options or SLABFS_PERCPU name an
//     engine that does not exist.
//   - ErrNoMemory: the system refuses address space or the allocator's own
//     memory.
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
		_ = pages.SetHuge(pages.HugeAlways) // huge pages are optional
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
		_ = a.Close() // if it fails too, what is left is never used again
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	a.enlist()
	return a, nil
}

// chooseEngine prefers the option to the environment, and the environment to
// the best engine. It asks the kernel only if the answer may be RSeq, because a
// system call filter may kill the process that asks.
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

// Aborts returns, by CPU number, how often the kernel started over a sequence
// of the process. It does so when the thread is preempted, migrated or
// signalled, and when a sheaf is closed.
func (a *Allocator) Aborts() []uint64 {
	counts := make([]uint64, a.hotplug.Possible().Limit())
	for n := range counts {
		counts[n] = percpu.AbortCount(n)
	}
	return counts
}

// Unregistered returns how many threads of the process could not register for
// sequences. Their calls take the slow path.
func (a *Allocator) Unregistered() uint64 { return rseq.Failed() }

// Hotplug returns the allocator's hotplug lock and its online CPUs.
func (a *Allocator) Hotplug() *cpu.Hotplug { return &a.hotplug }

// RCU returns the domain whose read-side sections keep the slabs of
// typesafe-by-RCU caches from being freed. A program may use the domain for its
// own data too. The callbacks of the program and of the allocator then delay
// each other. After Close, ReadLock and Call of the domain panic.
func (a *Allocator) RCU() *rcu.Domain { return a.rcu }

// Caches returns the caches that can be used, oldest first. It leaves out
// caches that are being made or destroyed.
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

// SetMemoryLimit sets the limit of MemoryUsed in bytes; 0 or less is none. The
// limit counts whole slabs, and whole pages of Bytes beyond 8 KiB. It does not
// count page tables (MetadataBytes), sheaves and barns (PerCPUBytes), or free
// pages that have not gone back to the system (part of MemoryMapped).
//
// A limit below MemoryUsed takes nothing away, and free objects in slabs can
// still be allocated. If a call needs new pages and would exceed the limit, it
// first flushes and shrinks the caches in use. If it would still exceed the
// limit, it returns nil, as do all such calls until enough is freed.
func (a *Allocator) SetMemoryLimit(bytes int64) { a.limit.Store(max(bytes, 0)) }

// MemoryLimit returns the limit in bytes, or 0 if there is none.
func (a *Allocator) MemoryLimit() int64 { return a.limit.Load() }

// MemoryUsed returns the bytes that count against the limit: slabs, and page
// runs of Bytes.
func (a *Allocator) MemoryUsed() int64 { return a.used.Load() }

// MemoryLarge returns the part of MemoryUsed that is in page runs, which are
// slices of Bytes of more than 8 KiB.
func (a *Allocator) MemoryLarge() int64 { return a.runs.Load() }

// MemoryRefused returns how many calls got no memory: calls of Alloc and Bytes
// that returned nil, and calls of AllocBulk and Prefill that returned false.
func (a *Allocator) MemoryRefused() uint64 { return a.nils.Load() }

// MemoryWaiting returns the part of MemoryUsed that is in empty slabs of
// typesafe-by-RCU caches and waits for a grace period. No cache counts these
// slabs as its own.
func (a *Allocator) MemoryWaiting() int64 { return a.waiting.Load() }

// Damage returns how many objects could not go back to their slab, because they
// were freed twice or by an address inside an object. It counts mistakes that a
// later call found. A mistake that the call itself finds is a panic.
func (a *Allocator) Damage() uint64 { return a.damage.Load() }

// Misuse returns how often a cache was used after its release. It is always 0,
// unless the order of destroy is broken.
func (a *Allocator) Misuse() uint64 { return a.misuse.Load() }

// EarlyReleases returns how often a cache was released before all of its
// unlinks had ended. It is always 0, unless the order of destroy is broken.
func (a *Allocator) EarlyReleases() uint64 { return a.early.Load() }

// RefusedDying returns how many calls of NewCache failed with ErrExist because
// a cache of that name was being destroyed.
func (a *Allocator) RefusedDying() uint64 { return a.refused.Load() }

// bookings counts operations that have not ended. Others wait on
// Allocator.unbooked until n is 0.
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
