// Package alloc allocates objects of fixed size outside the Go heap, where the
// garbage collector never looks at them.
//
// Make an allocator, make a cache for each kind of object, then allocate and
// free:
//
//	a, err := alloc.New(alloc.Options{MemoryLimit: 1 << 30}) // bytes
//	points, err := alloc.NewTyped[point](a, "point", alloc.CacheOptions{})
//
//	p := points.Alloc() // *point, zeroed; nil at the memory limit
//	points.Free(p)
//
//	err = points.Cache().Destroy() // ErrBusy while objects are live
//	err = a.Close()
//
// There are several ways to allocate:
//
//	Typed      values of one Go type; made by NewTyped
//	Local      one goroutine's store of values of a Typed, for tight loops
//	Cache      objects of a size in bytes; made by Allocator.NewCache
//	AllocBulk  many objects of a Cache in one call
//	Bytes      a []byte of any length; a method of the Allocator
//
// # Lifetimes
//
// An object is valid from its Alloc to its Free. The garbage collector never
// frees it, so an object that is lost stays allocated. After Free the memory
// may be another object at once, and nothing stops a program that still uses
// it. A typesafe-by-RCU cache is the exception: a reader in a section of
// Allocator.RCU may look at an object after its Free. It finds an object of the
// same cache, free or in use again.
//
// A Ref is valid as long as its object. Ref.Get checks nothing.
//
// A slice that Bytes returned is valid until FreeBytes, and so is every slice
// of it. FreeBytes needs the beginning and the capacity that Bytes returned. If
// append has moved the slice to the Go heap, FreeBytes panics.
//
// Values in a Local are live as far as the cache knows, until Local.Return. If
// the program drops a Local without Return, its values are lost.
//
// Destroy and Close never take an object away. While objects are live they
// return ErrBusy and change nothing. A cache that shares its slabs with others
// (Options.Merge) is different: Destroy ends only its name, and the objects can
// be freed through the others.
//
// After Destroy, methods of the cache that allocate, free or set a value panic,
// and methods that return a value still work. A successful Close does the same
// to all caches. From then on Bytes and FreeBytes panic too, as do RCU's
// ReadLock and Call, and NewCache returns ErrClosed.
//
// # Nil
//
// Alloc, AllocZeroed and Bytes return nil at the memory limit, AllocRef returns
// the nil Ref, and AllocBulk and Prefill return false. They do so too if the
// address space is used up, or if the system refuses to give more memory.
// Nothing was allocated then, and a later call may succeed.
//
// Free, FreeRef, FreeBulk and Local.Free panic on a nil object, because it is
// most often the result of an Alloc that nobody checked. A nil or empty slice
// holds nothing: FreeBytes of nil and FreeBulk of no objects do nothing.
//
// # Go pointers
//
// An object must hold no Go pointers. The collector does not see them and frees
// what they point to. NewTyped refuses a type that has any; users of NewCache
// and Bytes must take care themselves. To refer to an object from another one,
// use a Ref or an index. A pointer to an object may lie anywhere in Go memory.
//
// # Concurrency
//
// An Allocator, a Cache and a Typed may be used from any number of goroutines
// at once, and any of them may free any object. A Local belongs to one
// goroutine at a time. The allocator calls constructors, Publishers and the
// Logger with no lock held.
//
// # Mistakes
//
// Free panics at once on an object of another cache or of no cache. An object
// that was freed twice, or an address inside an object, may be found only when
// it goes back to its slab. Local.Free finds all of these later. Build with
// -tags slabfs_invariants to find them at once.
//
// # More
//
// The package knows no files. A Publisher can be attached to an allocator and
// hears of caches that come and go; slabfs/sysfs/slabattr shows them as files.
//
// docs/terms.md explains the words, docs/design.md how the parts fit together,
// docs/abi/slab.md the figures and settings, and docs/operating.md what limits
// of the process mean.
package alloc
