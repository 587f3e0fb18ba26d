package lockdep

import "sync/atomic"

// A Class names a kind of lock. All locks of one kind keep the same order
// relative to all locks of another kind.
type Class struct {
	name string
	nest *Class // a goroutine that holds a lock of nest may hold several of this class

	// Fields of the checker.
	number atomic.Int32  // 0: not seen yet; -1: there was no room for it
	same   int           // set before number: how many older classes have the name
	wait   string        // set before number: Linux's wait type, as in reports
	ops    atomic.Uint64 // acquisitions
	usage  atomic.Uint32 // usedShared, usedExclusive
}

// NewClass returns a class of that name. Several classes may share a name:
// reports and files number them.
func NewClass(name string) *Class { return &Class{name: name} }

// Name returns the name that reports print.
func (c *Class) Name() string {
	if c == nil {
		return "(unnamed)"
	}
	return c.name
}

// nestedIn lets a goroutine that holds a lock of class outer exclusively hold
// several locks of class c, taken in the order of their Init.
func (c *Class) nestedIn(outer *Class) *Class {
	c.nest = outer
	return c
}

// The classes of the allocator and of the tree, outermost first. A lock may be
// taken only if all locks held are of classes above its own. docs/locking.md
// says why. Active references and the kernel's inode locks have one class for
// each attribute definition; these classes are next to OpenFile, see ClassFor.
var (
	// A goroutine acquires GracePeriod to wait for readers. A reader may
	// take all classes below it.
	GracePeriod = NewClass("rcu_grace_period")

	OpenFile   = NewClass("of->mutex")                // one operation at a time per descriptor
	Reclaim    = NewClass("reclaim_lock")             // reclaim; its taker holds none below
	CPUHotplug = NewClass("cpu_hotplug_lock")         // read by create, destroy, flush, shrink
	SlabMutex  = NewClass("slab_mutex")               // list of caches, names, bookings
	Flush      = NewClass("flush_lock")               // one flush at a time
	PerCPU     = NewClass("cpu_lock").nestedIn(Flush) // one CPU's slabs and sheaf; in CPU order
	List       = NewClass("list_lock")                // a node's slabs and barn
	Pages      = NewClass("pages_lock")               // page runs

	// Leaves: no lock is taken while one is held.
	Tree      = NewClass("sysfs_tree_lock")
	Workqueue = NewClass("workqueue_lock")
	RCU       = NewClass("rcu_lock") // callbacks, grace periods, ends of read-side sections
	Leaf      = NewClass("leaf")
)
