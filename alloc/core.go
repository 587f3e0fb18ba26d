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

// How a cache works. docs/design.md has the reasons.
//
//	slab    a run of 2^order pages, cut into objects of one size (slab.go)
//	sheaf   one CPU's array of free objects; most calls touch nothing else
//	        (sheaf.go)
//	cpu slab, cpu partial slabs
//	        slabs that a CPU keeps for its own refills
//	node    what a memory node has of a cache: a barn of free objects,
//	        and a partial list of slabs that have free objects and that
//	        no CPU keeps (node.go)
//	core    the slabs and sheaves behind a cache. A Cache is the handle
//	        of one name. With Options.Merge, caches of one size share a
//	        core (merge.go).
//
// Alloc takes these steps until one of them finds an object:
//
//  1. Pop from this CPU's sheaf.
//  2. The sheaf is empty: under list_lock, move half a sheaf or a whole one to
//     it from the barn, or else from the slabs that this CPU keeps.
//  3. The CPU keeps no slabs: move slabs from the partial list to the CPU.
//  4. The list is empty: cut a new slab from fresh pages, with no lock held.
//  5. There are no pages within the memory limit: take objects from the partial
//     lists of other memory nodes. Then flush and shrink the caches in use, and
//     try again.
//
// Free does the reverse. It pushes to the sheaf of the CPU that it runs on,
// whichever CPU allocated. If the sheaf is full, half of it or all of it goes
// to the barn. If the barn is full, the objects go to their slabs. A slab that
// becomes empty goes back to the pages if its node already keeps min_partial
// slabs.
//
// With several memory nodes, steps 2 to 4 use the CPU's own node. Step 3 goes
// on to the partial lists of other nodes as often as remote_node_defrag_ratio
// says. A sheaf may hold objects of any node. An object that leaves it goes to
// the node that its memory belongs to.
//
// At rest, for every slab:
//
//	live + on sheaves + in the barn + free in the slab == objects per slab
//
// An empty slab of a typesafe-by-RCU cache waits for a grace period before its
// pages are free (rcu_slabs.go). It counts against the limit until then, and no
// Alloc waits for it. Free objects of every cache keep their content.
//
// Descriptors, bitmaps and page tables lie out of band (internal/pages). So an
// overflow of an object damages only its neighbours.
//
// A CPU that is offline for an allocator keeps nothing (hotplug.go). Its sheaf
// is closed in every cache, also in caches that are made later. Its threads
// take objects from the barn and the partial list, or else from a new slab. In
// this way a CPU that runs no threads any more gives back what it holds.
//
// Locks are taken in this order: the hotplug lock, slab_mutex, flush_lock,
// per-CPU locks in CPU order, list_lock of one node, and the pages lock of
// internal/pages. No callback of the user runs under one of them, and Alloc and
// Free panic with none held (docs/locking.md). On the lock engine, each Alloc
// and Free takes the per-CPU lock of the cache on the CPU that it runs on.

// A core is the slabs and sheaves that the handles of a cache stand for.
//
// Protection of fields:
//
//	I  set before the core is on the allocator's list, then constant
//	S  slab_mutex
//	A  atomic
//	D  written under flush_lock and all per-CPU locks, read under any
type core struct {
	layout                      // I
	a      *Allocator           // I
	id     string               // I: of a core that names may share, or else empty
	name   string               // I: the id, or the one name
	root   *Cache               // I: handle of the directory: of the id, if there is one, or of the name
	number uint32               // I: owner of the pages of its slabs; never used again
	flags  Flags                // I
	ctor   func(unsafe.Pointer) // I
	seq    bool                 // I: sequences use the areas; if false, the holder of a CPU's lock does
	place  percpu.Place         // I: for areas of sheafMax objects
	cpus   []*cpuState          // I: by CPU number; nil for numbers that no CPU can have

	cpuPartial  atomic.Uint32 // A: objects
	keepSlabs   atomic.Int32  // A: cpuPartial in slabs
	minPartial  atomic.Uint64 // A: slabs
	defragRatio atomic.Uint32 // A: percent

	handles    []*Cache      // S: handles of the names that are live or being made, oldest first
	unlinks    bookings      // S: unlinks of names and of the directory that have not ended
	aliases    atomic.Int32  // A: number of names besides the first; written under slab_mutex
	objectSize atomic.Uint32 // A: the largest of the names' object sizes; written under slab_mutex

	unreported atomic.Int64 // A: damaged objects that were not logged yet

	active   atomic.Bool // A: see activeCores
	activeAt int         // place in the list of activeCores, under its mu

	sheafCap atomic.Int32 // A, D: objects that a sheaf takes, 0 to sheafMax; Stats reads it without a lock
	dying    bool         // D: no call may be served any more
	locals   atomic.Bool  // A: there may be Locals of it
	released atomic.Bool  // A: its areas and slabs are given back, so nothing may use it

	nodes []*node     // I: in the order of cpu.Nodes
	barns atomic.Bool // A: the nodes have room for barns, see makeBarns
}

// A cpuState is what one CPU keeps of a cache.
//
// Protection of fields: I, constant; L, mu; A, atomic, written under mu.
type cpuState struct {
	mu    lockdep.Spin
	area  *percpu.Area // L: this CPU's sheaf
	node  *node        // I: its slabs are from this node
	open  atomic.Bool  // A: the area was opened once; stays true while it is closed for a flush or offline
	off   bool         // L: the CPU is offline: its area is closed, and it keeps no slabs
	rests bool         // L: a reclaim emptied the area; it is closed until its next use
	flow  flow         // L: which way objects last moved between sheaf and node
	slabs slabList     // L: the cpu slab, then the cpu partial slabs
	n     gauge        // A: slabs.n

	// The statistics, read without a lock. otherEvents and otherMoved count
	// what happened without this CPU's lock. otherMoved counts objects that
	// a sequence moved here for the holder of another CPU's lock.
	events      [numEvents]counter       // L: for the fast paths, without what the area's header counts
	moved       counter                  // L: objects put on the sheaf in bulk, less objects taken in bulk
	otherEvents [numEvents]atomic.Uint64 // A
	otherMoved  atomic.Uint64            // A: written under some CPU's mu

	_ [64]byte // the next one belongs to another CPU
}

// newCore returns the core for a cache, with the handle of its directory.
//
// Preconditions: the hotplug lock is held until the core is on the list, where
// it hears of CPUs that come and go.
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

// typesafe reports whether the core's empty slabs wait for a grace period.
func (k *core) typesafe() bool { return k.flags&TypesafeByRCU != 0 }

// serve binds a new handle to the core.
func (k *core) serve(c *Cache) { c.core, c.number, c.area = k, k.number, k.sequenceArea() }

// nextNumber counts the caches of the process. Numbers are never used again, so
// a stale pointer never seems to belong to a younger cache.
var nextNumber atomic.Uint64

// newNumber returns a number that was never used. 0 is the owner of free pages:
// if the counter wrapped, they would all seem to belong to a cache.
func newNumber() (uint32, error) {
	n := nextNumber.Add(1)
	if n > math.MaxUint32 {
		return 0, fmt.Errorf("the process has made 2^32 caches, and numbers are never used again: %w", ErrNoMemory)
	}
	return uint32(n), nil
}

// A flow is the direction of the last move of objects between a sheaf and its
// node.
type flow uint8

const (
	toSheaf flow = iota + 1
	fromSheaf
)

// batch returns how many objects move at a time between a sheaf and the node.
// It is half a sheaf, so that a goroutine that frees and allocates at the edge
// of a sheaf does not move them back and forth.
//
// Preconditions: flush_lock or a per-CPU lock of the core is held.
func (k *core) batch() int { return batchOf(int(k.sheafCap.Load())) }

// batchFor is batch for a CPU's sheaf. If objects last moved the same way, it
// is a whole sheaf: a goroutine that only allocates or only frees then comes
// here half as often. At the edge the direction changes, so half a sheaf moves.
//
// Preconditions: pc.mu is held.
func (k *core) batchFor(pc *cpuState, way flow) int {
	n := k.batch()
	if pc.flow == way {
		n = max(min(2*n, int(k.sheafCap.Load())), n)
	}
	return n
}

// batchOf is batch for sheaves of that capacity.
func batchOf(capacity int) int { return min(max(capacity/2, 1), maxBatch) }

// barnMax returns how many objects the barn takes if sheaves have their largest
// capacity.
func (k *core) barnMax() int { return barnSheaves * batchOf(k.sheafMax) }

// barnRoom returns how many objects the barn has memory for. Behind its content
// there is always room for two batches, which are on their way to or from
// slabs.
func (k *core) barnRoom() int { return k.barnMax() + 2*batchOf(k.sheafMax) }

// maxBatch bounds a batch, because list_lock is held while up to two batches
// move.
const maxBatch = 64

func (k *core) setCPUPartial(objects uint32) {
	k.cpuPartial.Store(objects)
	k.keepSlabs.Store(int32(min(cpuPartialSlabs(objects, k.objects), 1<<30)))
}

// lockCPU locks what the current CPU keeps of the cache. The thread may move to
// another CPU before lockCPU returns; the lock makes that harmless. Every slow
// path comes here, so this is where threads register for sequences.
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

// here returns what the current CPU keeps of the cache, as a hint. On the rseq
// engine, take the CPU number from rseq. A wrong number would open one CPU's
// sheaf and fill another's.
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
	return k.cpus[len(k.cpus)-1] // CPU numbers are sparse, and no CPU has the number of the hint
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

// openArea makes the core active, and opens the CPU's sheaf if the CPU is
// online. Every slow path calls it before it moves objects.
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

// mayKeep reports whether a CPU may keep one more slab. An online CPU keeps the
// cpu slab and as many cpu partial slabs as cpu_partial says, an offline CPU
// keeps none.
//
// Preconditions: pc.mu is held.
func (k *core) mayKeep(pc *cpuState) bool { return !pc.off && pc.slabs.n < 1+int(k.keepSlabs.Load()) }

// keep puts a slab on the CPU's list. The slab belongs to the CPU's node and is
// on no list.
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

// moveToNode moves a slab from the CPU's list to the node.
//
// Preconditions: pc.mu and pc.node.mu are held.
func (k *core) moveToNode(pc *cpuState, p pages.Page, discard *slabList) {
	k.unkeep(pc, p)
	pc.node.cpuFree.Add(-int64(k.freeIn(slabAt(p))))
	pc.count(deactivated(k.addPartial(pc.node, p, discard)), 1)
}

func pointer(word uintptr) unsafe.Pointer { return percpu.Pointer(word) }

// nodeOf returns the node that a slab's memory belongs to.
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
