package bench

import (
	"runtime/debug"
	"slices"
	"testing"

	"slabfs/alloc"
)

// A heap is objects of one size on an allocator. Its loops call the allocator directly, as
// the allocator's documentation tells, and none does more than those of its peers; alloc and
// free are for workloads that cannot be such a loop: there the call through the interface costs
// each allocator the same nanosecond.
type heap interface {
	pairs(n int)      // n times: allocate an object and free it
	fill(objs []ref)  // allocate each; nil: there is no memory
	drain(objs []ref) // free each
	alloc() ref
	free(obj ref)
	trim() // give back to the system what is free
	close() error
}

// A bytesHeap is slices of any size on an allocator.
type bytesHeap interface {
	pairs(n, size int)
	alloc(size int) []byte // nil: there is no memory
	free(b []byte)
	trim()
	close() error
}

// A column is an allocator that is compared.
type column struct {
	name, what string
	engine     alloc.Engine // of slabfs; others do not have one
	single     bool         // only one goroutine may use it
	loops      bool         // only for workloads with loops of its own

	heap  func(a *alloc.Allocator, name string, size int) (heap, error) // name is for its cache
	bytes func(a *alloc.Allocator) bytesHeap                            // nil: it has objects only
	plain func(a *alloc.Allocator, name string) (loop func(*testing.B), done func() error, err error)

	native map[string]func(threads int) Native // workloads that it does itself
}

// serves reports whether the allocator can do a workload at all.
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

// columns in their order.
var columns = []*column{
	{name: slabfsRSeq, what: "restartable sequences", engine: alloc.RSeq, heap: openSlab, bytes: openKmalloc, plain: plainSlab},
	{name: slabfsLock, what: "slabfs's lock engine", engine: alloc.Lock, heap: openSlab, bytes: openKmalloc, plain: plainSlab},
	{name: slabfsLocal, what: "slabfs with a sheaf for the goroutine (alloc.Local), where one runs", engine: alloc.RSeq, single: true, heap: openLocal, plain: plainLocal},
	{name: "sync.Pool", what: "sync.Pool, for slices one for each power of two", heap: openPool, bytes: openPoolBytes, plain: plainPool},
	{name: "new", what: "new or make, and the collector", heap: openNew, bytes: openMake, plain: plainNew},
	{name: "chan", what: "new or make behind a channel of 10,000 free objects, 1000 slices", heap: openChannel, bytes: openChannelBytes, plain: plainChannel},
	{name: "mcache", what: "github.com/bytedance/gopkg/lang/mcache", heap: openMcache, bytes: openMcacheBytes, plain: plainMcache},
	{name: "modernc", what: "modernc.org/memory under a mutex", heap: openModerncLocked, bytes: openModerncLockedBytes, plain: plainModerncLocked},
	{name: "modernc-bare", what: "modernc.org/memory without one, where one goroutine runs", single: true, heap: openModernc, bytes: openModerncBytes, plain: plainModernc},
	{name: floorName, what: "what no allocator gets below; each workload says what that is"},
}

// Allocators returns the names of all columns, and what they are.
func Allocators() (names, whats []string) {
	for _, c := range columns {
		names, whats = append(names, c.name), append(whats, c.what)
	}
	return names, whats
}

func columnOf(name string) *column {
	return columns[slices.IndexFunc(columns, func(c *column) bool { return c.name == name })]
}

// scavenge gives back to the system what the Go heap does not need. Pools
// forget what they have in the second collection.
func scavenge() {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
}

// empty takes everything out of a channel. What stayed would pin the pages that it lies on.
func empty[T any](c chan T) {
	for len(c) > 0 {
		<-c
	}
}

// room is how many free objects a channel holds.
const room = 10_000
