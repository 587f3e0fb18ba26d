package pages

import "slabfs/internal/cpu"

// Where there are several memory nodes, each growStep pages of address space are of one: of that which
// has asked for them first. So the free blocks of a node are its own, a block never merges
// with another node's, and a page's node follows from its address. With one node there is nothing to look up.

// Node returns the node of a page that was allocated, by its place in cpu.Nodes.
func Node(p Page) int {
	if heap.nodeOf == nil {
		return 0
	}
	return int(heap.nodeOf[p/growStep])
}

// freeLists are heads of lists of free blocks: cold, warm.
type freeLists [2][MaxOrder + 1]Page

// nodes returns how many nodes there are.
func nodes() int { return 1 + len(heap.more) }

// lists returns the free blocks of a node. What there always is has a fixed address: lists are most of
// what a page costs.
//
// Preconditions: heap.mu is held.
func lists(node int) *freeLists {
	if node == 0 {
		return &heap.free
	}
	return &heap.more[node-1]
}

// initNodes makes the lists of so many nodes.
//
// Preconditions: the arena is reserved, and no page of it was handed out.
func initNodes(n int) {
	if n > 1 {
		heap.more = make([]freeLists, n-1)
		heap.nodeOf = make([]uint16, heap.limit/growStep)
	}
}

// setNode gives fresh pages to a node. Pages of the first growStep before them are
// never used. If others come before them in their growStep pages, all of those have a
// node already. A page's memory is of the node that its address is bound to before it
// is usable. Where it cannot be bound, it is of the CPU's that touches it first, which
// is the same mostly.
//
// Preconditions: heap.mu is held.
func setNode(from, to Page, node int) {
	if from > blockPages {
		from = (from + growStep - 1) &^ (growStep - 1)
	}
	for i := from / growStep; i < to/growStep; i++ {
		heap.nodeOf[i] = uint16(node)
	}
	if from < to {
		_ = bind(from, int(to-from), cpu.Nodes()[node].ID)
	}
}
