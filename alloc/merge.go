package alloc

import (
	"fmt"
	"slices"
)

// This file says which caches share a core, as SLUB does since Linux 2.6.22.

// idOf returns the id of the core that a cache is to share, or "" if it must have
// its own: if it has a constructor, a user size, a sheaf capacity of its own, or a
// flag that says so.
//
// SLUB joins the oldest cache whose size is at most 7 bytes larger, a multiple of the
// wanted alignment, and whose ReclaimAccount is equal. All sizes are multiples of a
// word, so this is a cache of the very same size; there is one, and its id tells it.
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

// A core that may be shared has, besides the handles of its names, one that stands for
// its directory. It is named by the id and dies with the core.

// isDirectory reports whether the handle is that one, and not the handle of a name.
func (c *Cache) isDirectory() bool { return c.core.id != "" && c == c.core.root }

// ID returns the name of the directory that the cache's files are in: an id such as
// ":0000192" if it may share it with other caches, or else its own name.
func (c *Cache) ID() string { return c.core.root.name }

// coresOf returns the cores of some handles, each once.
func coresOf(cs []*Cache) []*core {
	var cores []*core
	for _, c := range cs {
		if !slices.Contains(cores, c.core) {
			cores = append(cores, c.core)
		}
	}
	return cores
}

// others returns the handles that the core has beside those.
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

// setHandles replaces the list of the core's handles. What its files tell of them
// is told by atomics, since no show takes slab_mutex.
//
// Preconditions: slab_mutex is held.
func (k *core) setHandles(list []*Cache) {
	k.handles = list
	if len(list) == 0 {
		return // it dies
	}
	size := uint32(0)
	for _, h := range list {
		size = max(size, h.objectSize)
	}
	k.objectSize.Store(size)
	k.aliases.Store(int32(len(list) - 1))
}
