package alloc

import (
	"context"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Flags of a cache.
type Flags uint32

// Flags, named as in Linux.
const (
	// HWCacheAlign aligns objects to cache lines of 64 bytes. It aligns
	// objects of at most half a line to the smallest part of a line that
	// holds them: a half, a quarter, and so on.
	HWCacheAlign Flags = 1 << iota

	// ReclaimAccount says that the program can free objects on demand. The
	// flag shows in files, and only caches that agree on it share slabs.
	ReclaimAccount

	// TypesafeByRCU frees the pages of an empty slab only after a grace
	// period; see Allocator.RCU.
	TypesafeByRCU

	// NoMerge keeps the cache from sharing slabs with another cache.
	NoMerge

	allFlags = HWCacheAlign | ReclaimAccount | TypesafeByRCU | NoMerge
)

// CacheOptions of NewCache. The zero value has SLUB's defaults.
type CacheOptions struct {
	// Align is the alignment of objects in bytes, a power of two up to
	// 4096. The alignment is at least 8, which is also what 0 stands for.
	Align int

	// Flags is any combination of HWCacheAlign, ReclaimAccount,
	// TypesafeByRCU and NoMerge.
	Flags Flags

	// Ctor runs once for each object of a new slab, with no lock held. A
	// freed object keeps its content, so Ctor does not run again when the
	// object is allocated again. A cache with a Ctor does not merge.
	Ctor func(unsafe.Pointer)

	// ShellDelete allows DestroyName, and so the file delete_cache, to
	// destroy the cache.
	ShellDelete bool

	// SheafCapacity is how many free objects each CPU keeps at hand, 1 to
	// 4096. 0 chooses by size, as Linux 7.0 does. A sheaf then has 60
	// objects below 256 bytes, 28 below 1024, 12 below 4096, else 4. A
	// cache whose capacity was chosen here does not merge.
	SheafCapacity int
}

// A Cache is one name's handle for objects of one size. It may be used from any
// goroutine. After its Destroy, Alloc, Free, their variants, Destroy and all
// setters panic with the handle's name. Methods that return a value still work.
//
// With Options.Merge, caches of one size share their slabs and sheaves. An
// object may be freed through any of their handles, even if the handle that it
// was allocated through is destroyed.
type Cache struct {
	// Protection of fields:
	//
	//	I  set before others see the handle, then constant
	//	S  slab_mutex
	//	A  atomic; written under slab_mutex

	area   unsafe.Pointer // A: see core.sequenceArea; the closed area if the handle is dead
	number uint32         // I: the core's number
	core   *core          // I
	dead   atomic.Bool    // A

	name        string // I
	shellDelete bool   // I
	objectSize  uint32 // I: bytes that NewCache was asked for
	usersize    uint32 // I: capacity of slices of Bytes; 0 if Bytes does not use the cache

	making    bool     // S: NewCache has not returned
	publishes bookings // S: trees that are publishing it
	published []*tree  // S: trees that have published it
}

// Name returns the cache's name.
func (c *Cache) Name() string { return c.name }

// ObjectSize returns the size in bytes that NewCache was asked for.
func (c *Cache) ObjectSize() int { return int(c.objectSize) }

// Alloc returns an object, or nil at the allocator's memory limit. Its content
// is undefined. In a cache with a constructor, an object is as the constructor
// or its last user left it.
//
// Most calls pop from the sheaf of the current CPU. On the rseq engine, that
// takes no lock and no atomic instruction. docs/benchmarks.md has times.
func (c *Cache) Alloc() unsafe.Pointer { return allocFast(c) }

// AllocZeroed is Alloc that clears the ObjectSize bytes of the object. This
// also clears the work of a constructor, which does not run again for that
// object.
//
// AllocZeroed panics on a typesafe-by-RCU cache, because a reader may be
// looking at the object. Use Alloc there, and set fields by atomic stores.
func (c *Cache) AllocZeroed() unsafe.Pointer {
	if c.core.typesafe() {
		panic(fmt.Sprintf("slabfs: AllocZeroed on cache %q, which is typesafe by RCU: it would clear what a reader may look at; use Alloc", c.name))
	}
	obj := allocFast(c)
	if obj != nil {
		clear(unsafe.Slice((*byte)(obj), c.objectSize))
	}
	return obj
}

// Free frees an object. Any goroutine may free it, on any CPU. Free panics at
// once if the object is nil, or if its page belongs to another cache or to
// none.
//
// An address inside an object, or an object that is free already, is found at
// the latest when it goes back to its slab. Until then, an object that was
// freed twice may be allocated twice. If another call finds the mistake, it
// does not panic: it logs the mistake and counts it in Allocator.Damage. A
// build with -tags slabfs_invariants finds both at once.
func (c *Cache) Free(obj unsafe.Pointer) { freeFast(c, obj) }

// Shrink moves all free objects back to their slabs, frees all empty slabs
// regardless of min_partial, and sorts the other slabs so that the fullest are
// used first. Then it returns all free pages of the process to the system.
func (c *Cache) Shrink() {
	c.mustLive("Shrink")
	_ = c.core.shrink(context.Background())
}

// ShrinkContext is Shrink that gives up if ctx ends while it waits for its
// locks. It then returns ctx's error and has done nothing. A write to the file
// shrink calls it. In a store of the cache's own files, it does nothing if the
// cache is being destroyed.
func (c *Cache) ShrinkContext(ctx context.Context) error {
	c.mustBeStore("ShrinkContext")
	defer c.CheckReleased()
	return c.core.shrink(ctx)
}

// SetCPUPartial sets about how many free objects the slabs of a CPU may hold,
// and flushes the cache. As in SLUB (Linux 5.16 to 6.19), the number of objects
// becomes a number of slabs, on the assumption that half of each slab is free.
//
// Errors: ErrInvalid above 2^32 - 1; the error of membarrier(2).
func (c *Cache) SetCPUPartial(objects uint) error {
	c.mustLive("SetCPUPartial")
	return c.SetCPUPartialContext(context.Background(), objects)
}

// SetCPUPartialContext is SetCPUPartial that gives up if ctx ends while it
// waits for its locks. It then returns ctx's error and has done nothing. A
// write to cpu_partial calls it. In a store of the cache's own files, it does
// nothing if the cache is being destroyed.
func (c *Cache) SetCPUPartialContext(ctx context.Context, objects uint) error {
	c.mustBeStore("SetCPUPartialContext")
	if uint64(objects) > maxCPUPartial {
		return fmt.Errorf("set cpu_partial of %q to %d: at most %d: %w", c.name, objects, uint32(maxCPUPartial), ErrInvalid)
	}
	defer c.CheckReleased()
	return c.core.flushAll(ctx, func() { c.core.setCPUPartial(uint32(objects)) }, nil)
}

// CPUPartial returns the number of objects that SetCPUPartial set. At first it
// is 120 below 256 bytes, 52 below 1024, 24 below 4096, else 6.
func (c *Cache) CPUPartial() uint { return uint(c.core.cpuPartial.Load()) }

// SetMinPartial sets how many slabs with free objects a node keeps, even if
// they are empty. A new value applies to the next slab that becomes empty.
func (c *Cache) SetMinPartial(slabs uint64) {
	c.mustBeStore("SetMinPartial")
	c.core.minPartial.Store(slabs)
}

// SetSheafCapacity sets how many free objects a CPU's sheaf takes, and flushes
// the cache. With 0, every Alloc and Free goes to the slabs. The most is the
// capacity that the cache was made with; see CacheOptions.SheafCapacity.
//
// Errors: ErrInvalid above that capacity; the error of membarrier(2).
func (c *Cache) SetSheafCapacity(objects uint) error {
	c.mustLive("SetSheafCapacity")
	return c.SetSheafCapacityContext(context.Background(), objects)
}

// SetSheafCapacityContext is SetSheafCapacity that gives up if ctx ends while
// it waits for its locks. It then returns ctx's error and has done nothing. A
// write to sheaf_capacity calls it. In a store of the cache's own files, it
// does nothing if the cache is being destroyed.
func (c *Cache) SetSheafCapacityContext(ctx context.Context, objects uint) error {
	c.mustBeStore("SetSheafCapacityContext")
	k := c.core
	if objects > uint(k.sheafMax) {
		return fmt.Errorf("set sheaf_capacity of %q to %d: its sheaves have room for %d: %w", c.name, objects, k.sheafMax, ErrInvalid)
	}
	defer c.CheckReleased()
	return k.flushAll(ctx, func() { k.sheafCap.Store(int32(objects)) }, nil)
}

// SheafCapacity returns the number of objects that a CPU's sheaf takes.
func (c *Cache) SheafCapacity() uint { return uint(c.core.sheafCap.Load()) }

// MinPartial returns the number of slabs that SetMinPartial set. At first it is
// 5 to 10, by the size of objects.
func (c *Cache) MinPartial() uint64 { return c.core.minPartial.Load() }

// SetRemoteNodeDefragRatio sets how often, in percent, the cache tries slabs of
// other memory nodes before it makes a new slab. At the memory limit it always
// tries them. ErrInvalid: more than 100.
func (c *Cache) SetRemoteNodeDefragRatio(percent uint) error {
	c.mustBeStore("SetRemoteNodeDefragRatio")
	if percent > 100 {
		return fmt.Errorf("set remote_node_defrag_ratio of %q to %d: at most 100: %w", c.name, percent, ErrInvalid)
	}
	c.core.defragRatio.Store(uint32(percent))
	return nil
}

// RemoteNodeDefragRatio returns the percentage that SetRemoteNodeDefragRatio
// set. At first it is 100.
func (c *Cache) RemoteNodeDefragRatio() uint { return uint(c.core.defragRatio.Load()) }
