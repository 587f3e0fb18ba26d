package lockdep

import "sync/atomic"

// A Class names a kind of lock: all locks of one kind keep the same order
// against all locks of another.
type Class struct {
	name string
	nest *Class // who holds one of nest may hold several of this class

	// Of the checker.
	number atomic.Int32  // 0: not seen yet; -1: there was no room for it
	same   int           // set before number: how many classes of the name came before
	wait   string        // set before number: what a waiter does, as reports print it
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

// nestedIn lets who holds a lock of class outer exclusively hold several of
// class c, taken in the order in which they were initialized.
func (c *Class) nestedIn(outer *Class) *Class {
	c.nest = outer
	return c
}

// The classes of the allocator and of the tree, outermost first: a lock may be
// taken only while holding locks of classes above its own. docs/locking.md
// tells why. Classes of active references and of the kernel's inode locks (one
// of each per attribute definition) stand around OpenFile: see ClassFor.
var (
	GracePeriod = NewClass("rcu_grace_period") // who waits for readers acquires it; a reader may take all that follows

	OpenFile   = NewClass("of->mutex")                // one operation at a time on one descriptor
	Reclaim    = NewClass("reclaim_lock")             // one reclaim at a time; its taker holds nothing of the classes below
	CPUHotplug = NewClass("cpu_hotplug_lock")         // read by create, destroy, flush, shrink; written by hotplug
	SlabMutex  = NewClass("slab_mutex")               // list of caches, names, bookings
	Flush      = NewClass("flush_lock")               // one flush at a time
	PerCPU     = NewClass("cpu_lock").nestedIn(Flush) // one CPU's sheaf (lock engine) and slabs; several in CPU order
	List       = NewClass("list_lock")                // a node's slabs and barn
	Pages      = NewClass("pages_lock")               // page runs

	// Leaves: nothing is taken while one is held.
	Tree      = NewClass("sysfs_tree_lock")
	Workqueue = NewClass("workqueue_lock")
	RCU       = NewClass("rcu_lock") // grace periods and callbacks; the end of a read-side section may take it
	Leaf      = NewClass("leaf")
)
