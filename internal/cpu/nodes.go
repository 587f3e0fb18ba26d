package cpu

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Node is a memory node, and the CPUs that it is the nearest memory of.
type Node struct {
	ID   int // the system's number of it
	CPUs Mask
}

// Nodes returns the memory nodes that possible CPUs take their memory from, one at least, by
// number. Each possible CPU is in one of them: the first, where the system does not tell, as of
// CPUs that are offline in it. It is read once, and nobody changes it.
func Nodes() []Node { return topology().nodes }

// NodeOf returns which of Nodes a CPU is in, by its place there; n is below the limit of Possible.
func NodeOf(n int) int { return topology().of[n] }

type nodesOf struct {
	nodes []Node
	of    []int // by CPU
}

var topology = sync.OnceValue(func() *nodesOf {
	nodes := fakeNodes
	if nodes == nil {
		nodes = readNodes(os.DirFS("/sys/devices/system/node"))
	}
	placed, of := place(nodes, Possible())
	return &nodesOf{placed, of}
})

var fakeNodes []Node

// FakeNodes makes Nodes return ns, less those without possible CPUs. It is for tests of a
// process of their own, and must be called before anybody asks.
func FakeNodes(ns []Node) { fakeNodes = ns }

// place puts each possible CPU in one node, and leaves out nodes that have none then.
func place(nodes []Node, possible Mask) (placed []Node, of []int) {
	if len(nodes) == 0 {
		nodes = []Node{{}}
	}
	all := make([]Node, len(nodes))
	for i := range nodes {
		all[i].ID = nodes[i].ID
	}
	at := make([]int, possible.Limit())
	for n := range possible.All() {
		at[n] = max(slices.IndexFunc(nodes, func(node Node) bool { return node.CPUs.Has(n) }), 0)
		all[at[n]].CPUs.Set(n)
	}
	index := make([]int, len(all))
	for i, node := range all {
		index[i] = len(placed)
		if node.CPUs.Count() > 0 {
			placed = append(placed, node)
		}
	}
	for n := range possible.All() {
		at[n] = index[at[n]]
	}
	return placed, at
}

// readNodes returns the nodes with memory that a directory as /sys/devices/system/node tells of,
// by number, none where it tells nothing. The CPUs of a node without memory are the nearest's that has some.
func readNodes(sys fs.FS) (nodes []Node) {
	for id := range list(sys, "has_memory").All() {
		nodes = append(nodes, Node{ID: id})
	}
	if len(nodes) == 0 {
		return nil
	}
	for id := range list(sys, "possible").All() {
		dir := fmt.Sprint("node", id)
		cpus := list(sys, dir+"/cpulist")
		if find(nodes, id) < 0 {
			id = nearest(sys, dir, nodes)
		}
		to := &nodes[find(nodes, id)]
		for n := range cpus.All() {
			to.CPUs.Set(n)
		}
	}
	return nodes
}

// list reads a cpulist, or what has the form of one; what cannot be read is empty.
func list(sys fs.FS, name string) Mask {
	text, _ := fs.ReadFile(sys, name)
	m, _ := ParseList(string(text))
	return m
}

func find(nodes []Node, id int) int {
	return slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })
}

// nearest returns the number of that node which is the least away from the one that dir is of. Distances
// are listed by the numbers of the nodes that are online; where they are not known, the first is as good as any.
func nearest(sys fs.FS, dir string, nodes []Node) int {
	text, _ := fs.ReadFile(sys, dir+"/distance")
	away := strings.Fields(string(text))
	best, least := nodes[0].ID, math.MaxInt
	for id := range list(sys, "online").All() {
		if len(away) == 0 {
			break
		}
		d, err := strconv.Atoi(away[0])
		away = away[1:]
		if err == nil && d < least && find(nodes, id) >= 0 {
			best, least = id, d
		}
	}
	return best
}
