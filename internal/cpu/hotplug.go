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

// Hotplug is cpu_hotplug_lock and the set of CPUs that are online for one
// allocator, which the lock guards. While a reader holds the lock, no CPU goes
// online or offline.
type Hotplug struct {
	sem      lockdep.RWSem
	possible Mask                 // constant after Init
	online   atomic.Pointer[Mask] // changed only while sem is held for writing
	states   []*State             // in the order of going online; changed like online
}

// A State is a step that a CPU takes on its way online, and undoes on its way
// offline. Its functions run while the hotplug lock is held for writing. If a
// function fails, it must have changed nothing. A nil function does nothing.
type State struct {
	Name    string
	Online  func(cpu int) error
	Offline func(cpu int) error

	reached Mask // the CPUs that took the step; guarded by the hotplug lock
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

// SetOnline brings a CPU online or offline. On the way online, the CPU takes
// the steps of all states in order. On the way offline, it first leaves the
// online mask and then undoes the steps in reverse order. If a state returns an
// error, SetOnline undoes the states before it and returns the error; nothing
// has changed then. If the CPU is in the wanted state already, nothing happens.
//
// SetOnline stops waiting for the lock when ctx ends, and returns ctx's error.
// After it has the lock, it ignores ctx.
//
// Errors: ErrNotPossible, ErrLast, or the error of a State, wrapped with the
// State's name.
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

// Register adds a state after all others and brings every online CPU into it.
// If the state returns an error for one of them, Register undoes the CPUs
// before it and returns the error. The state is then not added.
func (h *Hotplug) Register(s *State) error {
	h.Lock()
	defer h.Unlock()
	if err := walk(stepsOf(s, h.Online()), true); err != nil {
		return err
	}
	h.states = append(h.states, s)
	return nil
}

// Unregister takes every CPU out of a state and removes the state. If the state
// returns an error for one of them, Unregister brings the CPUs before it back
// and returns the error. The state then stays.
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

// A step moves one CPU into a state, or out of it.
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

// walk takes the steps, into their states or out of them. If one fails, walk
// undoes the steps that it took. If undoing fails too, the error says so, and
// the CPU stays where it is until the next walk.
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

// RLock keeps CPUs from going online and offline. A queued writer blocks new
// readers, so a goroutine must never take the lock twice.
func (h *Hotplug) RLock() { h.sem.RLock() }

// RLockContext is RLock, but stops waiting when ctx ends and returns ctx's
// error.
func (h *Hotplug) RLockContext(ctx context.Context) error { return h.sem.RLockContext(ctx) }

// RUnlock releases what RLock or RLockContext acquired.
func (h *Hotplug) RUnlock() { h.sem.RUnlock() }

// Lock excludes all readers and other writers, as a change of a CPU does.
func (h *Hotplug) Lock() { h.sem.Lock() }

// Unlock releases what Lock acquired.
func (h *Hotplug) Unlock() { h.sem.Unlock() }

// WritersWaited returns how many calls of Lock had to wait for readers.
func (h *Hotplug) WritersWaited() uint64 { return h.sem.WritersWaited() }
