package alloc

import (
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
)

// CacheStats is what a cache's files show. Everything but the constants is read
// from counters, without a lock and without a walk over slabs: it is exact while
// nobody uses the cache, and close to it otherwise. With several memory nodes the objects
// on each CPU's sheaf are looked at too, under that CPU's lock.
type CacheStats struct {
	// Constants, but for the object size and the aliases of caches that merge, and for
	// the sheaf capacity, which SetSheafCapacity changes.
	ObjectSize     int // bytes asked for, by the name that asked for most
	Size           int // bytes from one object to the next
	Align          int // bytes
	Order          int // of the pages of a slab
	ObjectsPerSlab int
	SheafCapacity  int // objects
	UserSize       int // bytes of an object that Bytes shows to its users
	Flags          Flags
	Ctor           func(unsafe.Pointer)
	Aliases        int // names beside the first that share the slabs

	// Sums of Nodes and CPUs.
	Slabs          int
	TotalObjects   int // that fit into Slabs
	Objects        int // live: handed out and not freed
	Partial        int // slabs on partial lists
	ObjectsPartial int // in use, on slabs of partial lists
	CPUSlabs       int // slabs that CPUs keep
	CPUPartial     int // those of them that are not the cpu slab
	Cached         int // free objects on sheaves and in barns

	Nodes []NodeStats
	CPUs  []CPUStats // of CPUs that keep slabs
}

// NodeStats is the part of CacheStats that one memory node has.
type NodeStats struct {
	Node                                                                    int
	Slabs, TotalObjects, Objects, Partial, ObjectsPartial, CPUSlabs, Cached int
}

// CPUStats is the part of CacheStats that one CPU has.
type CPUStats struct {
	CPU        int
	Slabs      int // the cpu slab and the cpu partial slabs
	CPUPartial int // the cpu partial slabs
}

// Stats returns the cache's figures. A destroyed cache has no slabs and no objects.
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

// nodeStats returns the figures of each node, but for the slabs that its CPUs keep.
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

// cachedByNode returns how many free objects of each node's slabs are on sheaves and in barns.
// A sheaf's level does not tell whose its objects are, so where there are several nodes they are
// looked at, which only the holder of the CPU's lock may do: the area may be another core's else.
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

// MemoryMapped returns the bytes of memory behind the arenas of the process,
// free pages that were not given back yet included.
func (a *Allocator) MemoryMapped() int64 { return pages.Mapped() }

// MemoryReturns returns how often the process gave memory of its arenas back to the
// system: calls of madvise, or what stands in for it.
func (a *Allocator) MemoryReturns() uint64 { return pages.Returns() }

// CachedBytes returns the bytes of free objects that wait on sheaves, in barns
// and in the slabs that CPUs keep: what a flush of all caches would move. It is the
// sum of SheafBytes, BarnBytes and CPUSlabBytes.
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

// sumBytes returns the bytes of those objects of all caches that count counts.
func (a *Allocator) sumBytes(count func(*core) int64) int64 {
	var sum int64
	for _, k := range *a.cores.Load() {
		sum += count(k) * int64(k.size)
	}
	return sum
}

// MetadataBytes returns the bytes that descriptors, page tables and bitmaps take, at
// most: those of the whole process.
func (a *Allocator) MetadataBytes() int64 { return pages.Metadata() }

// PerCPUBytes returns the bytes that the allocator's sheaves and barns and what else
// it keeps for each CPU take themselves, without objects: for each cache a record for
// each possible CPU; if the cache was used, a barn for each node, and a sheaf for each CPU
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
