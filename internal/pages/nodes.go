package pages

import "slabfs/internal/cpu"

// With several memory nodes, each growStep pages of address space belong to one
// node: the first one that asks for them. So each node has free blocks of its
// own, a block never merges with a block of another node, and a page's node
// follows from its address. With one node there is nothing to look up.

// Node returns the node of an allocated page, as an index into cpu.Nodes.
func Node(p Page) int {
	if heap.nodeOf == nil {
		return 0
	}
	return int(heap.nodeOf[p/growStep])
}

// freeLists are the heads of the lists of free blocks: cold ones, then warm
// ones.
type freeLists [2][MaxOrder + 1]Page

// nodes returns how many nodes there are.
func nodes() int { return 1 + len(heap.more) }

// lists returns the free blocks of a node. The lists of the first node have a
// fixed address, because lists are most of what allocating a page costs.
//
// Preconditions: heap.mu is held.
func lists(node int) *freeLists {
	if node == 0 {
		return &heap.free
	}
	return &heap.more[node-1]
}

// initNodes makes the lists of n nodes.
//
// Preconditions: the arena is reserved, and no page of it has been allocated.
func initNodes(n int) {
	if n > 1 {
		heap.more = make([]freeLists, n-1)
		heap.nodeOf = make([]uint16, heap.limit/growStep)
	}
}

// setNode gives fresh pages to a node. If earlier pages of the same growStep
// pages are in use, those growStep pages keep the node that they have. The
// first block does not count, because it is never used. A page's address is
// bound to the node before the page becomes usable. If binding fails, a page's
// memory comes from the node of the CPU that touches it first, which is mostly
// the same node.
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
