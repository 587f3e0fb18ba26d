// Package load keeps an allocator busy, so that the figures in its files
// change.
//
//	worker   one for each CPU that the process may use, bound to that CPU
//	stream   objects of one kind that a worker keeps: objects of a cache, or Bytes of some size
//	hold     objects of load-small that are kept in addition to the workers'
//
// A worker wakes up 20 times a second. It takes each of its streams to a size
// that swings up and down: first to a quarter more, then, by frees at random,
// to the size itself. So slabs become partly empty, CPUs keep some of them, and
// barns fill. No stream is ever empty unless the memory limit is reached. A
// worker marks the objects it allocates, and checks the mark when it frees
// them.
//
// Two files in sys/module/slabfs/load control it:
//
//	running   0 stops the workers, and returns when none is at work: the
//	          caches are at rest. 1 lets them go on.
//	hold      N makes it keep exactly N objects of load-small, in addition to the workers'
//
// # Locks
//
// The load has a lock, and each worker has a lock that it holds while it works.
// They are taken in this order, inside stores, and outside all locks of the
// allocator.
package load
