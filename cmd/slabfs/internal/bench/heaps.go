package bench

import (
	"runtime/debug"
	"slices"
	"testing"

	"slabfs/alloc"
)

// A heap is objects of one size on an allocator. Its loops call the allocator
// directly, in the way the allocator's documentation recommends, and none does
// more than the loops of its peers. alloc and free are for workloads that need
// single calls; there the interface costs each allocator the same nanosecond.
type heap interface {
	pairs(n int)      // n times: allocate an object and free it
	fill(objs []ref)  // allocate each; nil: no memory
	drain(objs []ref) // free each
	alloc() ref
	free(obj ref)
	trim() // return free memory to the system
	close() error
}

// A bytesHeap is slices of any size on an allocator.
type bytesHeap interface {
	pairs(n, size int)
	alloc(size int) []byte // nil: no memory
	free(b []byte)
	trim()
	close() error
}

// A column is an allocator that takes part.
type column struct {
	name, what string
	engine     alloc.Engine // only slabfs has one
	single     bool         // only one goroutine may use it
	loops      bool         // only for workloads that run in loops of the heap

	heap  func(a *alloc.Allocator, name string, size int) (heap, error) // name is the name of its cache
	bytes func(a *alloc.Allocator) bytesHeap                            // nil: only objects
	plain func(a *alloc.Allocator, name string) (loop func(*testing.B), done func() error, err error)

	native map[string]func(threads int) Native // workloads that it runs itself
}

// serves reports whether the allocator can run a workload at all.
func (c *column) serves(w *workload) bool {
	return c.native[w.name] != nil || (!c.single || !w.shared) && (c.bytes != nil || !w.slices) && (!c.loops || w.loops)
}

// Columns with a meaning of their own.
const (
	slabfsRSeq  = "slabfs"
	slabfsLock  = "slabfs-lock"
	slabfsLocal = "slabfs-local"
	floorName   = "floor"
)

// columns in the order of the table.
var columns = []*column{
	{name: slabfsRSeq, what: "restartable sequences", engine: alloc.RSeq, heap: openSlab, bytes: openKmalloc, plain: plainSlab},
	{name: slabfsLock, what: "slabfs's lock engine", engine: alloc.Lock, heap: openSlab, bytes: openKmalloc, plain: plainSlab},
	{name: slabfsLocal, what: "slabfs with a goroutine's own sheaf (alloc.Local), in workloads of one goroutine", engine: alloc.RSeq, single: true, heap: openLocal, plain: plainLocal},
	{name: "sync.Pool", what: "sync.Pool; for slices, one pool for each power of two", heap: openPool, bytes: openPoolBytes, plain: plainPool},
	{name: "new", what: "new or make, and the garbage collector", heap: openNew, bytes: openMake, plain: plainNew},
	{name: "chan", what: "new or make behind a channel of 10,000 free objects, or 1000 slices", heap: openChannel, bytes: openChannelBytes, plain: plainChannel},
	{name: "mcache", what: "github.com/bytedance/gopkg/lang/mcache", heap: openMcache, bytes: openMcacheBytes, plain: plainMcache},
	{name: "modernc", what: "modernc.org/memory under a mutex", heap: openModerncLocked, bytes: openModerncLockedBytes, plain: plainModerncLocked},
	{name: "modernc-bare", what: "modernc.org/memory without the mutex, in workloads of one goroutine", single: true, heap: openModernc, bytes: openModerncBytes, plain: plainModernc},
	{name: floorName, what: "a lower bound for any allocator; each workload says what it is"},
}

// Allocators returns the names of all columns, and a description of each.
func Allocators() (names, whats []string) {
	for _, c := range columns {
		names, whats = append(names, c.name), append(whats, c.what)
	}
	return names, whats
}

func columnOf(name string) *column {
	return columns[slices.IndexFunc(columns, func(c *column) bool { return c.name == name })]
}

// scavenge returns memory that the Go heap does not need to the system. Pools
// drop their contents in the second collection.
func scavenge() {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
}

// empty removes everything from a channel. A value that stayed would pin its
// pages.
func empty[T any](c chan T) {
	for len(c) > 0 {
		<-c
	}
}

// room is how many free objects a channel holds.
const room = 10_000
