// Package slabattr is the files of an allocator: it joins alloc, which knows no
// files, and sysfs, which knows no slabs.
//
//	sys/kernel/slab/CACHE/ATTRIBUTE    what a cache does, in the kernel's words (cache.go)
//	sys/kernel/slab/NAME -> :0000192   a name whose cache shares its directory with others
//	sys/devices/system/cpu/            which CPUs the allocator counts with (cpu.go)
//	sys/module/slabfs/                 new_cache, delete_cache, parameters/ (module.go)
//	proc/slabinfo                      all caches in one table (slabinfo.go)
//	proc/lockdep*                      what the checker of lock order has seen, if it is on (lockdep.go)
//
// A Tree is an alloc.Publisher: it gets a directory for each cache that is made, or
// a link to that of its id, and removes it, which drains shows and stores under way, before the cache is
// released. A show or store of a cache takes no lock that a create or destroy
// holds while it waits for a drain: no slab_mutex.
//
// Mount is the one call that a program needs:
//
//	srv, err := slabattr.Mount("/run/myservice/slab", allocator, fusefs.Options{})
//
// With srv.UnmountOnSignal a program that a signal ends leaves no dead mount.
package slabattr
