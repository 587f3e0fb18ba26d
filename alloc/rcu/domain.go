package rcu

import (
	"errors"
	"fmt"
	"sync/atomic"

	"slabfs/internal/cpu"
	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
	"slabfs/internal/percpu"
	"slabfs/workqueue"
)

// ErrFence is wrapped by errors of Synchronize, Barrier and Close: the kernel
// refused membarrier(2), so nobody can know which readers have left. Nothing
// that waits for a grace period may be freed; it is safe to try again.
var ErrFence = errors.New("no grace period without membarrier(2)")

// Options of a domain.
type Options struct {
	// Sequences has readers counted by restartable sequences. Without it they
	// are counted by atomics.
	Sequences bool
}

// A Domain is a set of readers and of those who wait for them.
//
// Protection of fields:
//
//	I  set by New, then constant
//	A  atomic
//	L  mu
//	G  of whoever made busy true
type Domain struct {
	// What readers look at.
	area     atomic.Pointer[percpu.Counters] // A: of CPU 0; the closed one where no sequence may count
	phase    atomic.Uint64                   // A: the token of readers that begin now; 0 after Close. Stored by G
	draining atomic.Uint64                   // A: the token of the readers that a grace period waits for, or 0. Stored by G
	slow     []stripe                        // I: counters of all other readers, by CPU as far as that is known
	_        [64]byte                        // what follows is written far more often

	cpus  []*percpu.Counters // I: where sequences count, by CPU; empty if there are none
	open  []atomic.Bool      // A: the CPU may have counted; only these are looked at
	place percpu.Place       // L: of cpus; 0 if there are none (any more)

	mu     lockdep.Mutex
	left   *lockdep.Cond // I: over mu; a reader of the phase that is draining has left
	turned *lockdep.Cond // I: over mu; busy has become false
	busy   bool          // L: somebody waits for readers
	begun  uint64        // L: grace periods that were begun
	done   uint64        // L: the last of them that ended well
	ended  uint64        // L: how many did
	failed uint64        // L: how many could not fence
	closed bool          // L: no callback is accepted any more

	calls  []func()         // L: callbacks that wait for their grace period
	called uint64           // L: callbacks that were accepted, ever
	ran    uint64           // L: callbacks that have run
	batch  uint64           // L: grace periods that were for callbacks
	err    error            // L: why the callbacks could not run
	queue  *workqueue.Queue // I
	runner *workqueue.Work  // I: runs callbacks; pending whenever some wait

	held held // who is in a section, where invariants are checked
}

// A stripe is counted by atomics.
type stripe struct {
	counters [5]atomic.Uint64
	_        [24]byte
}

// Where counters lie, from their begin, in words. A token is the offset of the
// readers that began, in bytes.
const (
	wordLocks   = 1 // two: for tokens 8 and 16
	wordUnlocks = 3 // two
	firstToken  = 8 * wordLocks
	otherToken  = 2*firstToken + 8 // less one token it is the other
	toUnlocks   = 8 * (wordUnlocks - wordLocks)
)

// New returns a domain without readers.
//
// Errors: one that wraps rseq.ErrUnsupported where sequences are asked for and
// cannot be had; percpu.ErrNoSpace.
func New(o Options) (*Domain, error) {
	if err := percpu.Reserve(); err != nil {
		return nil, fmt.Errorf("new rcu domain: %w", err)
	}
	n := max(cpu.Possible().Limit(), 1)
	d := &Domain{slow: make([]stripe, n)}
	d.area.Store(percpu.ClosedCounters())
	d.phase.Store(firstToken)
	d.mu.Init(lockdep.RCU)
	d.left = lockdep.NewCond(&d.mu)
	d.turned = lockdep.NewCond(&d.mu)
	d.queue = workqueue.New("rcu", workqueue.Options{})
	d.runner = d.queue.NewWork(d.runCallbacks)
	d.held.init()
	if o.Sequences {
		if err := d.useSequences(n); err != nil {
			d.queue.Destroy()
			return nil, fmt.Errorf("new rcu domain: %w", err)
		}
	}
	return d, nil
}

func (d *Domain) useSequences(n int) error {
	if err := startSequences(); err != nil {
		return err
	}
	place, err := percpu.NewCounters()
	if err != nil {
		return err
	}
	d.place = place
	d.open = make([]atomic.Bool, n)
	for i := range n {
		d.cpus = append(d.cpus, percpu.CountersAt(place, i))
	}
	d.area.Store(d.cpus[0])
	return nil
}

// Close waits until all callbacks have run, those that they queue included, and
// for the readers that are left. After it the domain holds no goroutine and no
// memory outside of Go's. From then on ReadLock and Call panic; nobody may be
// about to call them. A reader that stays blocks it for ever.
//
// It panics from within a callback of the domain. If it returns an error, one
// that wraps ErrFence, it can be called again.
func (d *Domain) Close() error {
	for {
		if err := d.Barrier(); err != nil {
			return fmt.Errorf("close rcu domain: %w", err)
		}
		d.mu.Lock()
		if d.called == d.ran {
			break
		}
		d.mu.Unlock()
	}
	d.area.Store(percpu.ClosedCounters()) // before the phase becomes 0; see readLock
	d.closed = true
	d.mu.Unlock()
	if err := d.Synchronize(); err != nil {
		return fmt.Errorf("close rcu domain: %w", err)
	}
	d.queue.Destroy()

	d.mu.Lock()
	place := d.place
	d.place = 0
	d.mu.Unlock()
	if place != 0 { // the last fence has ended the sequences that knew it
		var used cpu.Mask
		for n := range d.open {
			if d.open[n].Load() {
				used.Set(n)
			}
		}
		percpu.FreeCounters(place, used)
	}
	return nil
}

// Stats are what a domain has done.
type Stats struct {
	GracePeriods uint64 // that ended
	Batches      uint64 // those that were for callbacks
	FenceErrors  uint64 // grace periods that membarrier(2) made fail
	Called       uint64 // callbacks that were accepted
	Ran          uint64 // those that have run
	Sequences    uint64 // read-side sections that began without an atomic instruction; 0 after Close
	Atomics      uint64 // those that began with some, among them each new thread's first
}

// Stats returns the counters. Those of readers are exact when there are none.
func (d *Domain) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Stats{GracePeriods: d.ended, Batches: d.batch, FenceErrors: d.failed, Called: d.called, Ran: d.ran}
	for _, token := range []uint64{firstToken, otherToken - firstToken} {
		if d.place != 0 {
			s.Sequences += d.sumSequences(token / 8)
		}
		s.Atomics += d.sumAtomics(token / 8)
	}
	return s
}

// sumSequences returns what sequences have counted in that word, modulo 2^64.
//
// Preconditions: d.place is not 0, or nobody frees it meanwhile.
func (d *Domain) sumSequences(word uint64) (n uint64) {
	for i := range d.open {
		if d.open[i].Load() {
			n += d.cpus[i][word].Load()
		}
	}
	return n
}

func (d *Domain) sumAtomics(word uint64) (n uint64) {
	for i := range d.slow {
		n += d.slow[i].counters[word].Load()
	}
	return n
}

// openCPU lets sequences count on a CPU. The order matters: whoever finds that a
// sequence may have counted there must look there.
//
// Preconditions: in a read-side section, for which Close waits.
func (d *Domain) openCPU(n int) {
	if n < len(d.open) && !d.open[n].Load() {
		d.open[n].Store(true)
		d.cpus[n][0].Store(1)
	}
}

// mustNotRead panics where this goroutine would wait for itself, if that can be told.
func (d *Domain) mustNotRead(op string) {
	if invariants.Enabled && d.held.here() {
		panic("rcu: " + op + " inside a read-side section waits for itself")
	}
}
