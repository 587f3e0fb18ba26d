package alloc

import (
	"context"
	"slices"
	"sync/atomic"

	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

// activeCores are the cores in use: the cores that a reclaim looks at. The
// first slow path that uses a core adds it, and the reclaim that empties it
// removes it. So idle caches cost a reclaim nothing, however many there are.
//
// A core that is not active has no open sheaf, nothing in a barn, no slab that
// a CPU keeps, and no slab whose objects are all free.
//
// Protection of fields: L, mu, a leaf; A, atomic, written under mu. A core is
// added under the lock of one CPU, and removed under the locks of all CPUs.
type activeCores struct {
	mu   lockdep.Mutex
	list []*core      // L
	n    atomic.Int64 // A: len(list)
}

func (s *activeCores) add(k *core) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.active.Load() {
		return
	}
	k.active.Store(true)
	k.activeAt = len(s.list)
	s.list = append(s.list, k)
	s.n.Store(int64(len(s.list)))
}

func (s *activeCores) remove(k *core) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !k.active.Load() {
		return
	}
	k.active.Store(false)
	last := len(s.list) - 1
	moved := s.list[last]
	s.list[k.activeAt], moved.activeAt = moved, k.activeAt
	s.list[last] = nil
	s.list = s.list[:last]
	s.n.Store(int64(last))
}

func (s *activeCores) all() []*core {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// empty moves all free objects back to their slabs and frees all empty slabs.
// The sheaves stay closed until their next use, and the core is not active
// until then. If its fence fails, nothing has happened.
//
// Preconditions: the hotplug lock is held.
func (k *core) empty() {
	_ = k.flushAllLocked(context.Background(), k.rest, k.shrinkNodes) // its context never ends
}

// rest keeps the sheaves closed until their next use.
//
// Preconditions: flush_lock and every per-CPU lock are held; nothing is on a
// sheaf, in a barn, or kept by a CPU.
func (k *core) rest() {
	for _, pc := range k.cpus {
		if pc != nil {
			pc.rests = pc.open.Load()
		}
	}
	k.a.active.remove(k)
}

// hasEmptySlab reports whether empty would free a slab: whether all objects of
// some slab are in the slab, on sheaves or in a barn. It moves nothing and
// closes nothing. It is exact while nobody uses the cache.
//
// Preconditions: the hotplug lock is held.
func (k *core) hasEmptySlab() bool {
	if k.freeObjects()+k.cached() < int64(k.objects) {
		return false
	}
	a := k.a
	a.flushLock.Lock()
	defer a.flushLock.Unlock()
	if k.dying {
		return false
	}
	a.roomFor(k)
	objs := a.flushBuf[:0]
	for _, n := range k.nodes {
		n.mu.Lock()
		empty := n.empty
		objs = append(objs, n.barn...)
		n.mu.Unlock()
		if empty > 0 {
			return true
		}
	}
	for _, pc := range k.cpus {
		if pc == nil || !pc.open.Load() {
			continue
		}
		pc.mu.Lock()
		for obj := range pc.area.Objects() {
			objs = append(objs, uintptr(obj))
		}
		pc.mu.Unlock()
	}
	return k.anyComplete(objs)
}

// anyComplete reports whether objs has all objects of some slab that are not
// free in the slab. It sorts objs.
//
// Preconditions: flush_lock is held; the core is not dying.
func (k *core) anyComplete(objs []uintptr) bool {
	slices.Sort(objs)
	for len(objs) > 0 {
		p := k.slabOf(pointer(objs[0]))
		here := 1
		for here < len(objs) && k.slabOf(pointer(objs[here])) == p {
			here++
		}
		objs = objs[here:]
		n := k.nodeOf(p)
		n.mu.Lock()
		complete := pages.Owner(p) == k.number && here >= int(slabAt(p).inUse)
		n.mu.Unlock()
		if complete {
			return true
		}
	}
	return false
}
