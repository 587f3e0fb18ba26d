package alloc

import (
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
)

// CacheStats is what a cache's files show. All figures come from counters,
// without a walk over slabs. They are exact while nobody uses the cache, and
// close to it otherwise.
type CacheStats struct {
	// Constants, with three exceptions: ObjectSize and Aliases change if
	// caches merge, and SheafCapacity changes with SetSheafCapacity.
	ObjectSize     int // bytes that NewCache was asked for, the most of all names
	Size           int // bytes from one object to the next
	Align          int // bytes
	Order          int // a slab has 2^Order pages of 4 KiB
	ObjectsPerSlab int
	SheafCapacity  int // objects
	UserSize       int // capacity in bytes of a slice of Bytes; 0 if Bytes does not use the cache
	Flags          Flags
	Ctor           func(unsafe.Pointer)
	Aliases        int // names that share the slabs, besides the first

	// Sums of Nodes and CPUs.
	Slabs          int
	TotalObjects   int // objects that fit into Slabs
	Objects        int // live objects: allocated and not freed
	Partial        int // slabs on partial lists
	ObjectsPartial int // objects in use on slabs of partial lists
	CPUSlabs       int // slabs that CPUs keep
	CPUPartial     int // slabs that CPUs keep besides their cpu slab
	Cached         int // free objects on sheaves and in barns

	Nodes []NodeStats // all memory nodes
	CPUs  []CPUStats  // the CPUs that keep slabs
}

// NodeStats is the part of CacheStats that belongs to one memory node.
type NodeStats struct {
	Node                                                                    int // the system's number
	Slabs, TotalObjects, Objects, Partial, ObjectsPartial, CPUSlabs, Cached int
}

// CPUStats is the part of CacheStats that belongs to one CPU.
type CPUStats struct {
	CPU        int // the system's number
	Slabs      int // the cpu slab and the cpu partial slabs
	CPUPartial int // the cpu partial slabs
}

// Stats returns the cache's figures. A destroyed cache has no slabs and no
// objects.
//
// Stats takes no lock on a machine with one memory node. With several nodes it
// looks at the objects on each CPU's sheaf, under the lock of that CPU.
func (c *Cache) Stats() CacheStats {
	k := c.core
	s := CacheStats{
		ObjectSize: int(k.objectSize.Load()), Aliases: int(k.aliases.Load()), Size: int(k.size), Align: int(k.align), Order: k.order,
		ObjectsPerSlab: k.objects, SheafCapacity: int(k.sheafCap.Load()), UserSize: int(c.usersize), Flags: k.flags, Ctor: k.ctor,
	}
	s.Nodes = k.nodeStats()
	for i, pc := range k.cpus {
		if pc == nil {
			continue
		}
		if slabs := int(pc.n.Load()); slabs > 0 {
			s.CPUs = append(s.CPUs, CPUStats{CPU: i, Slabs: slabs, CPUPartial: slabs - 1})
			s.Nodes[pc.node.at].CPUSlabs += slabs
			s.CPUPartial += slabs - 1
		}
	}
	for _, n := range s.Nodes {
		s.Slabs += n.Slabs
		s.TotalObjects += n.TotalObjects
		s.Objects += n.Objects
		s.Partial += n.Partial
		s.ObjectsPartial += n.ObjectsPartial
		s.CPUSlabs += n.CPUSlabs
		s.Cached += n.Cached
	}
	return s
}

// nodeStats returns the figures of each node, without the slabs that its CPUs
// keep.
func (k *core) nodeStats() []NodeStats {
	stats := make([]NodeStats, len(k.nodes))
	cached := k.cachedByNode()
	for i, n := range k.nodes {
		s := &stats[i]
		free, cpuFree := int(n.free.Load()), int(n.cpuFree.Load())
		s.Node = cpu.Nodes()[i].ID
		s.Slabs = int(n.slabs.Load())
		s.Partial = int(n.partials.Load())
		s.TotalObjects = s.Slabs * k.objects
		s.Cached = cached[i]
		s.Objects = min(max(s.TotalObjects-free-s.Cached, 0), s.TotalObjects)
		s.ObjectsPartial = max(s.Partial*k.objects-max(free-cpuFree, 0), 0)
	}
	return stats
}

// cachedByNode returns how many free objects on sheaves and in barns belong to
// each node's slabs. The level of a sheaf does not tell which nodes its objects
// belong to. So with several nodes it looks at the objects, and holds the CPU's
// lock: without the lock, the area may belong to another core by now.
func (k *core) cachedByNode() []int {
	if len(k.nodes) == 1 {
		return []int{int(k.cached())}
	}
	sum := make([]int, len(k.nodes))
	for i, n := range k.nodes {
		sum[i] = int(n.inBarn.Load())
	}
	for _, pc := range k.cpus {
		if pc == nil || !pc.open.Load() {
			continue
		}
		pc.mu.Lock()
		if !k.dying {
			for obj := range pc.area.Objects() {
				sum[k.nodeOf(k.slabOf(obj)).at]++
			}
		}
		pc.mu.Unlock()
	}
	return sum
}

// MemoryMapped returns the bytes of memory behind the arenas of the process. It
// includes free pages that have not gone back to the system.
func (a *Allocator) MemoryMapped() int64 { return pages.Mapped() }

// MemoryReturns returns how often the process gave memory of its arenas back to
// the system, by madvise or its equivalent.
func (a *Allocator) MemoryReturns() uint64 { return pages.Returns() }

// CachedBytes returns the bytes of free objects on sheaves, in barns and in the
// slabs that CPUs keep: what a flush of all caches would move. It is the sum of
// SheafBytes, BarnBytes and CPUSlabBytes.
func (a *Allocator) CachedBytes() int64 { return a.SheafBytes() + a.BarnBytes() + a.CPUSlabBytes() }

// SheafBytes returns the bytes of free objects on sheaves.
func (a *Allocator) SheafBytes() int64 { return a.sumBytes((*core).onSheaves) }

// BarnBytes returns the bytes of free objects in barns.
func (a *Allocator) BarnBytes() int64 {
	return a.sumBytes((*core).inBarns)
}

// CPUSlabBytes returns the bytes of free objects in the slabs that CPUs keep.
func (a *Allocator) CPUSlabBytes() int64 {
	return a.sumBytes((*core).cpuFree)
}

// sumBytes returns the bytes of the objects of all caches that count counts.
func (a *Allocator) sumBytes(count func(*core) int64) int64 {
	var sum int64
	for _, k := range *a.cores.Load() {
		sum += count(k) * int64(k.size)
	}
	return sum
}

// MetadataBytes returns how many bytes descriptors, page tables and bitmaps of
// the process take at most.
func (a *Allocator) MetadataBytes() int64 { return pages.Metadata() }

// PerCPUBytes returns the bytes of the allocator's sheaves, barns and per-CPU
// records, without objects. Each cache has a record for each possible CPU. A
// cache that was used also has a barn for each node, and a sheaf for each CPU
// that has used it.
func (a *Allocator) PerCPUBytes() int64 {
	sum := a.areas.Load()
	for _, k := range *a.cores.Load() {
		sum += int64(len(k.cpus))*wordSize + int64(a.hotplug.Possible().Count())*int64(unsafe.Sizeof(cpuState{}))
		if k.barns.Load() {
			sum += int64(len(k.nodes)*k.barnRoom()) * wordSize
		}
	}
	return sum
}
