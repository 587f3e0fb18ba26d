package cpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"slabfs/internal/lockdep"
)

// Errors of SetOnline.
var (
	ErrNotPossible = errors.New("no such CPU")
	ErrLast        = errors.New("it is the last one online")
)

// Hotplug is cpu_hotplug_lock with what it guards: which CPUs are online for
// one allocator. Whoever reads it under the lock knows that none comes or goes.
type Hotplug struct {
	sem      lockdep.RWSem
	possible Mask                 // constant after Init
	online   atomic.Pointer[Mask] // changed only while sem is held for writing
	states   []*State             // changed only while sem is held for writing: in the order in which CPUs come
}

// A State is what a CPU goes through on its way online, and back through on its way
// offline. Its functions run while the hotplug lock is held for writing. One that
// fails must have changed nothing. Nil is one that has nothing to do.
type State struct {
	Name    string
	Online  func(cpu int) error
	Offline func(cpu int) error

	reached Mask // by which CPUs; the hotplug lock
}

// Init makes all possible CPUs online.
func (h *Hotplug) Init(possible Mask) {
	h.sem.Init(lockdep.CPUHotplug)
	h.possible = possible
	h.online.Store(&possible)
}

// Possible returns the CPUs that can ever be online.
func (h *Hotplug) Possible() Mask { return h.possible }

// Online returns the CPUs that are online.
func (h *Hotplug) Online() Mask { return *h.online.Load() }

// SetOnline brings a CPU online: through all states in their order; or offline: out
// of the online mask first, then back through the states. If one of them refuses,
// which is the error, those that were passed are undone and nothing has changed. A
// CPU that is there already stays so.
//
// It waits for the lock until ctx ends, whose error it returns then, and for nothing after that.
//
// Errors: ErrNotPossible, ErrLast, that of a State, wrapped with its name.
func (h *Hotplug) SetOnline(ctx context.Context, cpu int, online bool) error {
	if !h.possible.Has(cpu) {
		return ErrNotPossible
	}
	if err := h.sem.LockContext(ctx); err != nil {
		return err
	}
	defer h.sem.Unlock()
	was := h.Online().Has(cpu)
	if was && !online {
		if h.Online().Count() == 1 {
			return ErrLast
		}
		h.set(cpu, false)
	}
	var steps []step
	for _, s := range h.states {
		steps = append(steps, step{s, cpu})
	}
	if !online {
		slices.Reverse(steps)
	}
	err := walk(steps, online)
	if err != nil {
		online = was
	}
	h.set(cpu, online)
	return err
}

// Register adds a state behind all others, and brings every CPU that is online into
// it. If one of them refuses, which is the error, those before it are undone and the state
// is not added.
func (h *Hotplug) Register(s *State) error {
	h.Lock()
	defer h.Unlock()
	if err := walk(stepsOf(s, h.Online()), true); err != nil {
		return err
	}
	h.states = append(h.states, s)
	return nil
}

// Unregister takes every CPU out of a state and removes it. If one of them refuses,
// which is the error, those before it are brought back and the state stays.
func (h *Hotplug) Unregister(s *State) error {
	h.Lock()
	defer h.Unlock()
	steps := stepsOf(s, s.reached)
	slices.Reverse(steps)
	if err := walk(steps, false); err != nil {
		return err
	}
	h.states = slices.DeleteFunc(h.states, func(o *State) bool { return o == s })
	return nil
}

// A step is one CPU's way into a state, or out of it.
type step struct {
	state *State
	cpu   int
}

func stepsOf(s *State, cpus Mask) (steps []step) {
	for n := range cpus.All() {
		steps = append(steps, step{s, n})
	}
	return steps
}

// walk goes the steps, into their states or out of them. If one fails it goes back
// those that it has gone; where that fails too, the error tells, and the next walk finds
// the CPU where it stayed.
//
// Preconditions: the hotplug lock is held for writing.
func walk(steps []step, up bool) error {
	var gone []step
	for _, s := range steps {
		if s.state.reached.Has(s.cpu) == up {
			continue
		}
		if err := s.take(up); err != nil {
			for _, back := range slices.Backward(gone) {
				err = errors.Join(err, back.take(!up))
			}
			return err
		}
		gone = append(gone, s)
	}
	return nil
}

func (s step) take(up bool) error {
	f, way := s.state.Offline, "offline"
	if up {
		f, way = s.state.Online, "online"
	}
	if f != nil {
		if err := f(s.cpu); err != nil {
			return fmt.Errorf("state %q of CPU %d, %s: %w", s.state.Name, s.cpu, way, err)
		}
	}
	if up {
		s.state.reached.Set(s.cpu)
	} else {
		s.state.reached.Clear(s.cpu)
	}
	return nil
}

// set changes the online mask.
//
// Preconditions: the hotplug lock is held for writing.
func (h *Hotplug) set(cpu int, online bool) {
	m := h.Online().Clone()
	if online {
		m.Set(cpu)
	} else {
		m.Clear(cpu)
	}
	h.online.Store(&m)
}

// RLock keeps CPUs from coming and going. A queued writer holds new readers
// back, so a goroutine never takes it twice.
func (h *Hotplug) RLock() { h.sem.RLock() }

// RLockContext is RLock that stops waiting when ctx ends, with ctx's error.
func (h *Hotplug) RLockContext(ctx context.Context) error { return h.sem.RLockContext(ctx) }

// RUnlock ends what RLock began.
func (h *Hotplug) RUnlock() { h.sem.RUnlock() }

// Lock holds everybody back as a CPU does that comes or goes.
func (h *Hotplug) Lock() { h.sem.Lock() }

// Unlock ends what Lock began.
func (h *Hotplug) Unlock() { h.sem.Unlock() }

// WritersWaited returns how many calls of Lock had to wait for readers.
func (h *Hotplug) WritersWaited() uint64 { return h.sem.WritersWaited() }
