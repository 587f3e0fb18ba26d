// Package slabattr provides the files of an allocator. It joins alloc, which
// knows no files, and sysfs, which knows no slabs.
//
//	sys/kernel/slab/CACHE/ATTRIBUTE    what a cache does, in the kernel's words (cache.go)
//	sys/kernel/slab/NAME -> :0000192   a name whose cache shares its directory with others
//	sys/devices/system/cpu/            the CPUs that the allocator uses (cpu.go)
//	sys/module/slabfs/                 new_cache, delete_cache, parameters/ (module.go)
//	proc/slabinfo                      all caches in one table (slabinfo.go)
//	proc/lockdep*                      what the checker of lock order found (lockdep.go)
//
// A Tree is an alloc.Publisher. For each new cache it makes a directory, or a
// link to the directory of the cache's id. Before a cache is released, the Tree
// removes the directory, which drains the running shows and stores. A show or
// store of a cache takes no lock that create or destroy holds during a drain;
// in particular, it does not take slab_mutex.
//
// A program needs only one call, Mount:
//
//	srv, err := slabattr.Mount("/run/myservice/slab", allocator, fusefs.Options{})
//
// With srv.UnmountOnSignal, a program that is ended by a signal leaves no dead
// mount behind.
package slabattr
