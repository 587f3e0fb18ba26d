package alloc

import (
	"fmt"
	"slices"
)

// This file decides which caches share a core, as SLUB does since Linux 2.6.22.

// idOf returns the id of the core that a cache is to share. It returns "" if
// the cache must have a core of its own: it has a constructor, a user size, a
// sheaf capacity of its own, or a flag that forbids sharing.
//
// SLUB joins the oldest cache whose size is at most 7 bytes larger and a
// multiple of the wanted alignment, and whose ReclaimAccount is equal. Here all
// sizes are multiples of 8, so only a cache of exactly the same size qualifies.
// There is one such core, and the id names it.
func (a *Allocator) idOf(l layout, o CacheOptions, usersize uint32) string {
	if !a.merge || o.Ctor != nil || usersize != 0 || o.SheafCapacity != 0 || o.Flags&(TypesafeByRCU|NoMerge) != 0 {
		return ""
	}
	letters := ""
	if o.Flags&ReclaimAccount != 0 {
		letters = "a-"
	}
	return fmt.Sprintf(":%s%07d", letters, l.size)
}

// A core that may be shared has the handles of its names, and one more handle
// that stands for its directory. The name of that handle is the id. It dies
// with the core.

// isDirectory reports whether the handle stands for the directory of a shared
// core.
func (c *Cache) isDirectory() bool { return c.core.id != "" && c == c.core.root }

// ID returns the name of the directory of the cache's files. It is an id such
// as ":0000192" if other caches may share the slabs, or else the cache's own
// name.
func (c *Cache) ID() string { return c.core.root.name }

// coresOf returns the cores of some handles, each core once.
func coresOf(cs []*Cache) []*core {
	var cores []*core
	for _, c := range cs {
		if !slices.Contains(cores, c.core) {
			cores = append(cores, c.core)
		}
	}
	return cores
}

// others returns the core's handles other than cs.
//
// Preconditions: slab_mutex is held.
func (k *core) others(cs []*Cache) []*Cache {
	var list []*Cache
	for _, h := range k.handles {
		if !slices.Contains(cs, h) {
			list = append(list, h)
		}
	}
	return list
}

// setHandles replaces the list of the core's handles. It keeps in atomics what
// files show of the handles, because no show takes slab_mutex.
//
// Preconditions: slab_mutex is held.
func (k *core) setHandles(list []*Cache) {
	k.handles = list
	if len(list) == 0 {
		return // the core dies
	}
	size := uint32(0)
	for _, h := range list {
		size = max(size, h.objectSize)
	}
	k.objectSize.Store(size)
	k.aliases.Store(int32(len(list) - 1))
}
