package alloc

import (
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
	"slabfs/internal/percpu"
	"slabfs/internal/rseq"
)

// A core is what the handles of a cache stand for: its slabs and its sheaves.
//
// Protection of fields:
//
//	I  set before the core is on the allocator's list, then constant
//	S  slab_mutex
//	A  atomic
//	D  written while holding flush_lock and every per-CPU lock, read under any of them
type core struct {
	layout                      // I
	a      *Allocator           // I
	id     string               // I: of a core that names may share; else empty
	name   string               // I: the id, or the one name
	root   *Cache               // I: stands for the directory: the cache itself, or where there is an id the handle of that
	number uint32               // I: owner of the pages of its slabs; never used again
	flags  Flags                // I
	ctor   func(unsafe.Pointer) // I
	seq    bool                 // I: sequences work on the areas, and not whoever holds a CPU's lock
	place  percpu.Place         // I: of areas for sheafMax objects
	cpus   []*cpuState          // I: by CPU number; nil where no CPU can be

	cpuPartial  atomic.Uint32 // A: objects
	keepSlabs   atomic.Int32  // A: what cpuPartial comes to, in slabs
	minPartial  atomic.Uint64 // A: slabs
	defragRatio atomic.Uint32 // A: percent

	handles    []*Cache      // S: of the names that are live or being made, oldest first
	unlinks    bookings      // S: unlinks of names and of the directory under way
	aliases    atomic.Int32  // A: names beside the first; written under slab_mutex
	objectSize atomic.Uint32 // A: the largest of the names' object sizes; written under slab_mutex

	unreported atomic.Int64 // A: damage that was not logged yet

	active   atomic.Bool // A: see activeCores
	activeAt int         // place in their list, under their mu

	sheafCap atomic.Int32 // A, D: objects that a sheaf takes, 0 to sheafMax; Stats reads it without a lock
	dying    bool         // D: no call may be served any more
	locals   atomic.Bool  // A: there may be Locals of it
	released atomic.Bool  // A: its areas and slabs are given back: nothing may look at it

	nodes []*node     // I: as in cpu.Nodes
	barns atomic.Bool // A: the nodes have room for barns, see makeBarns
}

// A cpuState is what one CPU keeps of a cache.
//
// Protection of fields: I, constant; L, mu; A, atomic, written under mu.
type cpuState struct {
	mu    lockdep.Spin
	area  *percpu.Area // L: this CPU's sheaf
	node  *node        // I: where its slabs are from
	open  atomic.Bool  // A: the area was opened; stays true while it is closed, for a moment or offline
	off   bool         // L: the CPU is offline: its area is closed, and it keeps no slabs
	rests bool         // L: a reclaim emptied the area, which is closed until its next use
	flow  flow         // L: what was last done behind the sheaf
	slabs slabList     // L: the cpu slab, then the cpu partial slabs
	n     gauge        // A: slabs.n

	// The books, read without a lock. What a sequence moved here for the holder of
	// another CPU's lock, and what happened with no CPU's lock held, is apart.
	events      [numEvents]counter       // L: those of the fast paths without what the area's header counts
	moved       counter                  // L: objects put on the sheaf in bulk, less those taken so
	otherEvents [numEvents]atomic.Uint64 // A
	otherMoved  atomic.Uint64            // A: written under some CPU's mu

	_ [64]byte // the next one belongs to another CPU
}

// newCore returns the core for a cache, with the handle of its directory.
//
// Preconditions: the hotplug lock is held until the core is on the list, where it hears
// of CPUs that come and go.
func (a *Allocator) newCore(c *Cache, id string, l layout, o CacheOptions) (*core, error) {
	number, err := newNumber()
	if err != nil {
		return nil, err
	}
	place, err := percpu.NewPlace(l.sheafMax)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoMemory, err)
	}
	k := &core{layout: l, a: a, id: id, name: c.name, root: c, number: number, flags: o.Flags, ctor: o.Ctor, place: place, seq: a.engine == RSeq}
	if id != "" {
		k.name, k.root = id, &Cache{name: id, objectSize: l.size}
		k.serve(k.root)
	}
	k.cpus = make([]*cpuState, a.hotplug.Possible().Limit())
	for i := range cpu.Nodes() {
		n := &node{at: i}
		n.mu.Init(lockdep.List)
		k.nodes = append(k.nodes, n)
	}
	for n := range a.hotplug.Possible().All() {
		pc := &cpuState{area: percpu.At(place, n), node: k.nodes[cpu.NodeOf(n)], off: !a.hotplug.Online().Has(n)}
		pc.mu.Init(lockdep.PerCPU)
		k.cpus[n] = pc
	}
	k.sheafCap.Store(int32(l.sheafMax))
	k.setCPUPartial(defaultCPUPartial(l.size))
	k.minPartial.Store(defaultMinPartial(l.size))
	k.defragRatio.Store(100)
	return k, nil
}

// typesafe reports whether the core's slabs outlive a grace period.
func (k *core) typesafe() bool { return k.flags&TypesafeByRCU != 0 }

// serve makes the core what a new handle is for.
func (k *core) serve(c *Cache) { c.core, c.number, c.area = k, k.number, k.sequenceArea() }

// nextNumber counts the caches of the process. Numbers are never used again, so
// a stale pointer never seems to belong to a younger cache.
var nextNumber atomic.Uint64

// newNumber returns a number that nobody has had. 0 is nobody's: after it wrapped, each
// free page would be a cache's.
func newNumber() (uint32, error) {
	n := nextNumber.Add(1)
	if n > math.MaxUint32 {
		return 0, fmt.Errorf("the process has made 2^32 caches, and numbers are never used again: %w", ErrNoMemory)
	}
	return uint32(n), nil
}

// A flow is the way that objects last went between a sheaf and its node.
type flow uint8

const (
	toSheaf flow = iota + 1
	fromSheaf
)

// batch returns how many objects move at a time between a sheaf and the node:
// half a sheaf, so that a goroutine that frees and allocates at the edge does not move them back and forth.
//
// Preconditions: flush_lock or a per-CPU lock of the core is held.
func (k *core) batch() int { return batchOf(int(k.sheafCap.Load())) }

// batchFor is batch for a CPU's sheaf: where objects went the same way last, it is the whole of it, since
// whoever allocates or frees only need come half as often. At the edge they go the other way next.
//
// Preconditions: pc.mu is held.
func (k *core) batchFor(pc *cpuState, way flow) int {
	n := k.batch()
	if pc.flow == way {
		n = max(min(2*n, int(k.sheafCap.Load())), n)
	}
	return n
}

// batchOf is batch where sheaves take that many objects.
func batchOf(capacity int) int { return min(max(capacity/2, 1), maxBatch) }

// barnMax returns how many objects the barn takes, with the largest sheaves.
func (k *core) barnMax() int { return barnSheaves * batchOf(k.sheafMax) }

// barnRoom returns how many objects the barn has room for: behind it there is always some for what
// is on its way to slabs, or from them, two batches.
func (k *core) barnRoom() int { return k.barnMax() + 2*batchOf(k.sheafMax) }

// maxBatch bounds a batch: list_lock is held while two of them move at most.
const maxBatch = 64

func (k *core) setCPUPartial(objects uint32) {
	k.cpuPartial.Store(objects)
	k.keepSlabs.Store(int32(min(cpuPartialSlabs(objects, k.objects), 1<<30)))
}

// lockCPU locks what the CPU at hand keeps of the cache. The thread may run
// elsewhere by now; the lock makes that harmless. Every slow path comes here, so
// that threads register.
//
// Preconditions: no lock is held.
func (k *core) lockCPU() *cpuState {
	if k.seq {
		rseq.Register()
	}
	pc := k.here()
	pc.mu.Lock()
	return pc
}

// here returns what the CPU at hand keeps of the cache, as a hint. Sequences know that CPU where
// nothing else tells it: who took another one would open that one's sheaf, and fill this one's.
func (k *core) here() *cpuState {
	n := -1
	if k.seq {
		n = rseq.CPU()
	}
	if uint(n) >= uint(len(k.cpus)) {
		n = cpu.Current(len(k.cpus))
	}
	if pc := k.cpus[n]; pc != nil {
		return pc
	}
	return k.cpus[len(k.cpus)-1] // numbers are sparse, and the hint was one that no CPU has
}

// lockCPUs takes every per-CPU lock, in CPU order.
func (k *core) lockCPUs() {
	for _, pc := range k.cpus {
		if pc != nil {
			pc.mu.Lock()
		}
	}
}

func (k *core) unlockCPUs() {
	for _, pc := range k.cpus {
		if pc != nil {
			pc.mu.Unlock()
		}
	}
}

// openArea makes the core active, and lets objects into the CPU's sheaf if it
// is online. Every slow path calls it before it moves objects.
//
// Preconditions: pc.mu is held; the core is not dying.
func (k *core) openArea(pc *cpuState) {
	if !k.active.Load() {
		k.a.active.add(k)
	}
	capacity := int(k.sheafCap.Load())
	if capacity == 0 || pc.off || pc.open.Load() && !pc.rests {
		return
	}
	if !pc.open.Load() {
		pc.open.Store(true)
		pc.count(SheafAlloc, 1)
		k.a.areas.Add(int64(percpu.Bytes(k.sheafMax)))
	}
	pc.rests = false
	pc.area.Open(capacity)
}

// mayKeep reports whether a CPU may keep one more slab: the cpu slab and as many cpu partial slabs as
// cpu_partial says, or none if it is offline.
//
// Preconditions: pc.mu is held.
func (k *core) mayKeep(pc *cpuState) bool { return !pc.off && pc.slabs.n < 1+int(k.keepSlabs.Load()) }

// keep puts a slab of the CPU's node that is on no list on the CPU's list.
//
// Preconditions: pc.mu and pc.node.mu are held.
func (k *core) keep(pc *cpuState, p pages.Page, push func(*slabList, pages.Page)) {
	if invariants.Enabled && k.nodeOf(p) != pc.node {
		panic(fmt.Sprintf("slabfs: cache %q: a CPU of another node keeps slab %d", k.name, p))
	}
	slabAt(p).where = onCPU
	push(&pc.slabs, p)
	pc.n.Store(int64(pc.slabs.n))
}

// unkeep takes a slab off the CPU's list.
//
// Preconditions: pc.mu and pc.node.mu are held.
func (k *core) unkeep(pc *cpuState, p pages.Page) {
	pc.slabs.remove(p)
	pc.n.Store(int64(pc.slabs.n))
	slabAt(p).where = onNone
}

// moveToNode takes a slab off the CPU's list for the node.
//
// Preconditions: pc.mu and pc.node.mu are held.
func (k *core) moveToNode(pc *cpuState, p pages.Page, discard *slabList) {
	k.unkeep(pc, p)
	pc.node.cpuFree.Add(-int64(k.freeIn(slabAt(p))))
	pc.count(deactivated(k.addPartial(pc.node, p, discard)), 1)
}

func pointer(word uintptr) unsafe.Pointer { return percpu.Pointer(word) }

// nodeOf returns the node that a slab belongs to: whose memory it is.
func (k *core) nodeOf(p pages.Page) *node { return k.nodes[pages.Node(p)] }

// freeObjects returns how many objects are free in slabs.
func (k *core) freeObjects() int64 { return k.sum(func(n *node) *gauge { return &n.free }) }

// cpuFree returns how many objects are free in slabs that CPUs keep.
func (k *core) cpuFree() int64 { return k.sum(func(n *node) *gauge { return &n.cpuFree }) }

// inBarns returns how many objects are in barns.
func (k *core) inBarns() int64 { return k.sum(func(n *node) *gauge { return &n.inBarn }) }

// inUse returns how many objects are not free in slabs.
func (k *core) inUse() int64 {
	return k.sum(func(n *node) *gauge { return &n.slabs })*int64(k.objects) - k.freeObjects()
}

func (k *core) sum(counter func(*node) *gauge) (sum int64) {
	for _, n := range k.nodes {
		sum += counter(n).Load()
	}
	return sum
}
