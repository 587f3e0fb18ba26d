package lockdep

// A Class names a kind of lock: all locks of one kind keep the same order
// against all locks of another.
type Class struct {
	name string
}

// NewClass returns a class of that name. Several classes may share a name:
// active references have one class per attribute definition.
func NewClass(name string) *Class { return &Class{name: name} }

// Name returns the name that reports print.
func (c *Class) Name() string {
	if c == nil {
		return "(unnamed)"
	}
	return c.name
}

// The classes of the allocator and of the tree, outermost first: a lock may be
// taken only while holding locks of classes above its own. docs/locking.md
// tells why. Classes of active references (one per attribute definition) stand
// between OpenFile and Reclaim.
var (
	OpenFile   = NewClass("of->mutex")        // one operation at a time on one descriptor
	Reclaim    = NewClass("reclaim_lock")     // one reclaim at a time; its taker holds nothing of the classes below
	CPUHotplug = NewClass("cpu_hotplug_lock") // read by create, destroy, flush, shrink; written by hotplug
	SlabMutex  = NewClass("slab_mutex")       // list of caches, names, bookings
	Flush      = NewClass("flush_lock")       // one flush at a time
	PerCPU     = NewClass("cpu_lock")         // one CPU's sheaf (lock engine) and slabs; several in CPU order
	List       = NewClass("list_lock")        // a node's slabs and barn
	Pages      = NewClass("pages_lock")       // page runs

	// Leaves: nothing is taken while one is held.
	Tree      = NewClass("sysfs_tree_lock")
	Workqueue = NewClass("workqueue_lock")
	RCU       = NewClass("rcu_lock") // grace periods and callbacks; the end of a read-side section may take it
	Leaf      = NewClass("leaf")
)
