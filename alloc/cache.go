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
	HWCacheAlign   Flags = 1 << iota // align objects to cache lines, as far as their size allows
	ReclaimAccount                   // objects can be freed on demand; shown, and kept apart when caches merge
	TypesafeByRCU                    // slabs outlive the readers that may look at them; see Allocator.RCU
	NoMerge                          // never share slabs with another cache

	allFlags = HWCacheAlign | ReclaimAccount | TypesafeByRCU | NoMerge
)

// CacheOptions of NewCache. The zero value has SLUB's defaults.
type CacheOptions struct {
	Align       int                  // bytes, a power of two up to a page; 0: that of a word
	Flags       Flags                // see the constants
	Ctor        func(unsafe.Pointer) // runs once for each object of a new slab, with no lock held; a freed object keeps its content
	ShellDelete bool                 // delete_cache may destroy it

	// SheafCapacity is how many free objects each CPU keeps at hand, 1 to 4096. 0: by
	// size, 60 below 256 bytes, 28 below 1024, 12 below 4096, else 4. A cache for which
	// it was chosen does not merge.
	SheafCapacity int
}

// A Cache is one name's handle for objects of one size. It may be used from any
// goroutine. Alloc, Free, their variants, Destroy and everything that sets a value
// panic with the handle's name after its Destroy. What returns a value still does.
//
// With Options.Merge, caches of one size share a core: their slabs and sheaves. An
// object may be freed through any of their handles, also when the one that it was
// allocated through is destroyed.
//
// Protection of fields:
//
//	I  set before others see the handle, then constant
//	S  slab_mutex
//	A  atomic; written under slab_mutex
type Cache struct {
	area   unsafe.Pointer // A: its core's area on CPU 0 as sequences see it; the closed area once the handle is dead, and on the lock engine
	number uint32         // I: its core's
	core   *core          // I
	dead   atomic.Bool    // A

	name        string // I
	shellDelete bool   // I
	objectSize  uint32 // I: bytes asked for
	usersize    uint32 // I

	making    bool     // S: NewCache has not returned
	publishes bookings // S: trees that are publishing it
	published []*tree  // S: trees that have published it
}

// Name returns the cache's name.
func (c *Cache) Name() string { return c.name }

// ObjectSize returns the size of objects in bytes that NewCache was asked for.
func (c *Cache) ObjectSize() int { return int(c.objectSize) }

// Alloc returns an object, or nil when the allocator's memory limit is reached.
// Its content is undefined. In a cache with a constructor, an object is as its last
// user left it.
func (c *Cache) Alloc() unsafe.Pointer { return allocFast(c) }

// AllocZeroed is Alloc that clears the object. What a constructor made is cleared
// too, for good: it does not run again for that object. AllocZeroed panics on a
// typesafe-by-RCU cache, where a reader may be looking at the object: use Alloc,
// and set what must be set by atomic stores.
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

// Free takes an object back, on any CPU. It panics at once if the object is nil,
// which is no object, or if its page belongs to another cache or to none. An
// address inside an object, or an object that is free already, is found at the
// latest when it goes back to its slab. Until then, an object that was freed twice
// may be allocated twice. The invariants build finds both at once.
func (c *Cache) Free(obj unsafe.Pointer) { freeFast(c, obj) }

// Shrink gives all free objects back to their slabs and all empty slabs back to
// the pages, whatever min_partial says, and their memory to the system.
func (c *Cache) Shrink() {
	c.mustLive("Shrink")
	_ = c.core.shrink(context.Background())
}

// ShrinkContext is Shrink that gives up, with ctx's error and nothing done, if
// ctx ends while it waits for its locks. It is what echo 1 > shrink does: in a
// store of the cache's own files it does nothing if the cache is being destroyed.
func (c *Cache) ShrinkContext(ctx context.Context) error {
	c.mustBeStore("ShrinkContext")
	defer c.CheckReleased()
	return c.core.shrink(ctx)
}

// SetCPUPartial sets how many free objects the slabs that a CPU keeps may hold,
// as SLUB counts them, and flushes all CPUs. ErrInvalid: more than 32 bits.
func (c *Cache) SetCPUPartial(objects uint) error {
	c.mustLive("SetCPUPartial")
	return c.SetCPUPartialContext(context.Background(), objects)
}

// SetCPUPartialContext is SetCPUPartial that gives up, with ctx's error and
// nothing done, if ctx ends while it waits for its locks. It is what echo >
// cpu_partial does: in a store of the cache's own files it does nothing if the
// cache is being destroyed.
func (c *Cache) SetCPUPartialContext(ctx context.Context, objects uint) error {
	c.mustBeStore("SetCPUPartialContext")
	if uint64(objects) > maxCPUPartial {
		return fmt.Errorf("set cpu_partial of %q to %d: at most %d: %w", c.name, objects, uint32(maxCPUPartial), ErrInvalid)
	}
	defer c.CheckReleased()
	return c.core.flushAll(ctx, func() { c.core.setCPUPartial(uint32(objects)) }, nil)
}

// CPUPartial returns what SetCPUPartial set.
func (c *Cache) CPUPartial() uint { return uint(c.core.cpuPartial.Load()) }

// SetMinPartial sets how many slabs with free objects a node keeps even when they are empty.
func (c *Cache) SetMinPartial(slabs uint64) {
	c.mustBeStore("SetMinPartial")
	c.core.minPartial.Store(slabs)
}

// SetSheafCapacity sets how many free objects a CPU's sheaf takes, and flushes all
// CPUs: from 0, where every Alloc and Free goes to the slabs, to what
// CacheOptions.SheafCapacity was or stood for. ErrInvalid: more than that.
func (c *Cache) SetSheafCapacity(objects uint) error {
	c.mustLive("SetSheafCapacity")
	return c.SetSheafCapacityContext(context.Background(), objects)
}

// SetSheafCapacityContext is SetSheafCapacity that gives up, with ctx's error and
// nothing done, if ctx ends while it waits for its locks. It is what echo >
// sheaf_capacity does: in a store of the cache's own files it does nothing if the
// cache is being destroyed.
func (c *Cache) SetSheafCapacityContext(ctx context.Context, objects uint) error {
	c.mustBeStore("SetSheafCapacityContext")
	k := c.core
	if objects > uint(k.sheafMax) {
		return fmt.Errorf("set sheaf_capacity of %q to %d: its sheaves have room for %d: %w", c.name, objects, k.sheafMax, ErrInvalid)
	}
	defer c.CheckReleased()
	return k.flushAll(ctx, func() { k.sheafCap.Store(int32(objects)) }, nil)
}

// SheafCapacity returns what SetSheafCapacity set.
func (c *Cache) SheafCapacity() uint { return uint(c.core.sheafCap.Load()) }

// MinPartial returns what SetMinPartial set.
func (c *Cache) MinPartial() uint64 { return c.core.minPartial.Load() }

// SetRemoteNodeDefragRatio sets, in percent, how often slabs of other memory
// nodes are used before a new slab is made. ErrInvalid: more than 100.
func (c *Cache) SetRemoteNodeDefragRatio(percent uint) error {
	c.mustBeStore("SetRemoteNodeDefragRatio")
	if percent > 100 {
		return fmt.Errorf("set remote_node_defrag_ratio of %q to %d: at most 100: %w", c.name, percent, ErrInvalid)
	}
	c.core.defragRatio.Store(uint32(percent))
	return nil
}

// RemoteNodeDefragRatio returns what SetRemoteNodeDefragRatio set.
func (c *Cache) RemoteNodeDefragRatio() uint { return uint(c.core.defragRatio.Load()) }
