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

// A Node is a memory node, and the CPUs whose nearest memory it is.
type Node struct {
	ID   int // the system's number of the node
	CPUs Mask
}

// Nodes returns the memory nodes that possible CPUs take their memory from,
// ordered by number; there is at least one. Each possible CPU is in exactly one
// of them. If the system does not tell a CPU's node, as for offline CPUs, the
// CPU is in the first. The nodes are read once. The caller must not change
// them.
func Nodes() []Node { return topology().nodes }

// NodeOf returns the index in Nodes of CPU n's node. n must be below the limit
// of Possible.
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

// FakeNodes makes Nodes return ns, without nodes that have no possible CPU. It
// is for tests that run in a process of their own, and must be called before
// the first call of Nodes or NodeOf.
func FakeNodes(ns []Node) { fakeNodes = ns }

// place puts each possible CPU into one node, and leaves out the nodes without
// any.
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

// readNodes returns the nodes with memory, by number, from a directory like
// /sys/devices/system/node. It returns none if the directory has no list of
// them. If a node has no memory, its CPUs go to the nearest node that has some.
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

// list reads a file in the format of a cpulist. If the file cannot be read, the
// result is empty.
func list(sys fs.FS, name string) Mask {
	text, _ := fs.ReadFile(sys, name)
	m, _ := ParseList(string(text))
	return m
}

func find(nodes []Node, id int) int {
	return slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })
}

// nearest returns the number of the node in nodes with the smallest distance
// from the node of dir. The system lists distances in the order of the online
// nodes' numbers. If distances are unknown, nearest returns the first node.
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
