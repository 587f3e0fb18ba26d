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
// that waits for a grace period may be freed. It is safe to try again.
var ErrFence = errors.New("no grace period without membarrier(2)")

// Options of a domain.
type Options struct {
	// Sequences counts readers by restartable sequences. Without it,
	// readers are counted by atomics.
	Sequences bool
}

// A Domain is a set of readers and of the goroutines that wait for them.
//
// Protection of fields:
//
//	I  set by New, then constant
//	A  atomic
//	L  mu
//	G  stored by the goroutine that made busy true
type Domain struct {
	// What readers load.
	area     atomic.Pointer[percpu.Counters] // A: of CPU 0; closed if no sequence may count
	phase    atomic.Uint64                   // A, G: the token of new readers; 0 after Close
	draining atomic.Uint64                   // A, G: the token of the old phase, or 0
	slow     []stripe                        // I: counters of other readers, by CPU if known
	_        [64]byte                        // the fields below are written far more often

	cpus  []*percpu.Counters // I: where sequences count, by CPU; empty if there are none
	open  []atomic.Bool      // A: the CPU may have counted; only these are summed
	place percpu.Place       // L: of cpus; 0 if there are none (any more)

	mu     lockdep.Mutex
	left   *lockdep.Cond // I: over mu; a reader of the draining phase has left
	turned *lockdep.Cond // I: over mu; busy has become false
	busy   bool          // L: a goroutine waits for readers
	begun  uint64        // L: grace periods that have begun
	done   uint64        // L: the last grace period that succeeded
	ended  uint64        // L: how many succeeded
	failed uint64        // L: how many failed to fence
	closed bool          // L: no callback is accepted any more

	calls  []func()         // L: callbacks that wait for their grace period
	called uint64           // L: callbacks accepted so far
	ran    uint64           // L: callbacks run so far
	batch  uint64           // L: grace periods for callbacks
	err    error            // L: why the callbacks could not run
	queue  *workqueue.Queue // I
	runner *workqueue.Work  // I: runs callbacks; pending whenever some wait

	held held // the goroutines in sections, in builds that check invariants
}

// A stripe holds counters for atomic additions.
type stripe struct {
	counters [5]atomic.Uint64
	_        [24]byte
}

// The places of counters, in words. A token is the offset in bytes of the
// counter of starts.
const (
	wordLocks   = 1 // two words, for tokens 8 and 16
	wordUnlocks = 3 // two words
	firstToken  = 8 * wordLocks
	otherToken  = 2*firstToken + 8 // otherToken - token is the other token
	toUnlocks   = 8 * (wordUnlocks - wordLocks)
)

// New returns a domain without readers. Its errors wrap rseq.ErrUnsupported if
// sequences are requested but not available, and percpu.ErrNoSpace if there is
// no room for counters.
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

// Close waits until all callbacks have run, including callbacks that they
// queue, and until all readers have left. If a reader stays, Close never
// returns. After Close the domain holds no goroutine and no memory outside
// Go's. ReadLock and Call then panic; no goroutine may be about to call them.
//
// Close panics if it is called from a callback of the domain. If it returns an
// error, the error wraps ErrFence, and Close can be called again.
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

// Stats counts what a domain has done.
type Stats struct {
	GracePeriods uint64 // grace periods that ended
	Batches      uint64 // grace periods for callbacks
	FenceErrors  uint64 // grace periods that failed because of membarrier(2)
	Called       uint64 // callbacks accepted
	Ran          uint64 // callbacks run
	Sequences    uint64 // sections begun without an atomic instruction; 0 after Close
	Atomics      uint64 // sections begun with atomics, such as each new thread's first
}

// Stats returns the counters. Sequences and Atomics are exact if there are no
// readers.
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
// Preconditions: d.place is not 0, or is not freed during the call.
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

// openCPU lets sequences count on a CPU. It stores open first, because a CPU
// where a sequence may have counted must be included in sums.
//
// Preconditions: the caller is in a read-side section, so that Close waits for
// it.
func (d *Domain) openCPU(n int) {
	if n < len(d.open) && !d.open[n].Load() {
		d.open[n].Store(true)
		d.cpus[n][0].Store(1)
	}
}

// mustNotRead panics if this goroutine would wait for itself. Only builds that
// check invariants can tell.
func (d *Domain) mustNotRead(op string) {
	if invariants.Enabled && d.held.here() {
		panic("rcu: " + op + " inside a read-side section waits for itself")
	}
}
