// Package load puts an allocator to work, so that the figures of its files move.
//
//	worker   one for each CPU that the process may use, bound to it
//	stream   objects of one kind that a worker keeps: a cache's, or Bytes of some size
//	hold     objects of load-small that are kept besides the workers'
//
// A worker wakes up 20 times a second. It brings each of its streams to a size
// that swings up and down, by way of a quarter more, and frees at random. So
// slabs become partly empty, CPUs keep some of them, barns fill, and no stream is
// ever empty unless the memory limit is reached. What it allocated it marks, and
// looks for the mark when it frees.
//
// Two files in sys/module/slabfs/load steer it:
//
//	running   0 stops the workers where they are, and returns when none is at
//	          work: the caches are at rest. 1 lets them go on.
//	hold      N makes it keep exactly N objects of load-small, besides the workers'
//
// # Locks
//
// The load has a lock, and each worker has one that it holds while it works. They
// are taken in this order, inside stores, and outside all locks of the allocator.
package load
