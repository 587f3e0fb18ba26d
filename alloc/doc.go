// Package alloc hands out fixed-size objects from off-heap memory, one cache per size.
//
//	object  what Alloc returns: bytes that the garbage collector does not know
//	slab    a run of 2^order pages, cut into objects of one size
//	sheaf   one CPU's array of free objects; most calls touch nothing else
//	cpu slab, cpu partial slabs   slabs that a CPU keeps for its own refills
//	node    a memory node's barn (objects of sheaves) and partial list (slabs with free objects)
//	core    a cache's slabs and sheaves; a Cache is the handle of one name for it,
//	        and with Options.Merge caches of one size have one core (merge.go)
//
// Alloc climbs:
//
//  1. Pop from this CPU's sheaf.
//  2. Sheaf empty: take half a sheaf, or a whole one, from the barn, or else from the slabs that
//     this CPU keeps, under list_lock.
//  3. The CPU keeps none: take slabs from the partial list.
//  4. The list is empty: cut a new slab from fresh pages, with no lock held.
//  5. The memory limit is reached: take from other memory nodes' partial lists; then flush
//     and shrink all caches, and try again.
//
// Free is the mirror: push on this CPU's sheaf, whichever CPU allocated. Sheaf
// full: half of it, or all, goes to the barn; barn full: to the slabs. A slab that becomes
// empty goes back to the pages if its node keeps min_partial slabs already.
//
// With several memory nodes, steps 2 to 4 are those of the CPU's own node, but that step 3
// goes on to other nodes' lists as often as remote_node_defrag_ratio says. A sheaf may hold
// objects of any node; what leaves it goes to the node whose memory it is.
//
// At rest, for every slab:
//
//	live + on sheaves + in the barn + free in the slab == objects per slab
//
// A slab of a typesafe-by-RCU cache that becomes empty first waits for a grace period
// (rcu_destroy.go, Allocator.RCU): a reader in a section may look at an object after it
// was freed, and finds an object of the same cache, free or used again by another. Free
// objects keep their content, whatever the cache. Such memory counts against the limit,
// and no Alloc waits for it.
//
// Descriptors, bitmaps and page tables lie out of band (internal/pages), so an
// overflow in an object damages only its neighbours, and a Free of what is no
// object of the cache is found.
//
// # Nil
//
// Alloc, AllocZeroed, AllocRef and Bytes return nil, and AllocBulk and Prefill return false, where
// no memory can be had: the limit is reached, or the address space is used up, or the system
// refuses to give more. Then nothing was allocated, and a later call may succeed.
//
// nil is no object. Free, FreeRef, FreeBulk and Local.Free panic on it, since a free of nil is
// most often an Alloc that nobody looked at. A nil slice has nothing in it: FreeBytes and
// FreeBulk of one do nothing.
//
// # CPUs that come and go
//
// A CPU that is offline for an allocator keeps nothing (hotplug.go): its sheaf is closed
// in every cache, its own or made later, and its threads go to step 2, where they find the
// barn and the partial list, and to step 4. It is how a CPU that nobody runs on any
// more gives back what it holds.
//
// # Files
//
// The package knows no files. Trees attach to an Allocator (Attach) and are told
// of caches that come and go; slabfs/sysfs/slabattr is such a tree.
//
// # Locks
//
// In the order in which they are taken: the hotplug lock, slab_mutex,
// flush_lock, per-CPU locks in CPU order, list_lock of one node, and in internal/pages the
// pages lock. No callback of a user, a constructor or a Publisher, runs under
// one of them, and Alloc and Free panic with none held. docs/locking.md tells why
// the order is what it is.
//
// On the lock engine each Alloc and Free takes the per-CPU lock of the cache on
// the CPU at hand.
package alloc
