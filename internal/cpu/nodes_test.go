package cpu

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// show prints nodes as "0:0-1 2:2-3", with a CPU's node for each possible one after it.
func show(nodes []Node, of []int, possible Mask) string {
	var b strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&b, "%d:%v ", n.ID, n.CPUs)
	}
	for n := range possible.All() {
		if !nodes[of[n]].CPUs.Has(n) {
			fmt.Fprintf(&b, "CPU %d is said to be in node %d ", n, nodes[of[n]].ID)
		}
	}
	return strings.TrimSpace(b.String())
}

func TestReadNodes(t *testing.T) {
	for _, tc := range []struct {
		name, possible string
		files          map[string]string
		want           string
	}{
		{"no sysfs", "0-3", nil, "0:0-3"},
		{"one node", "0-1", map[string]string{"has_memory": "0", "possible": "0", "online": "0", "node0/cpulist": "0-1"}, "0:0-1"},
		{"two sockets", "0-7", map[string]string{"has_memory": "0-1", "possible": "0-1", "online": "0-1", "node0/cpulist": "0-1,4-5\n", "node1/cpulist": "2-3,6-7\n"}, "0:0-1,4-5 1:2-3,6-7"},
		{"sparse numbers", "0,7,9", map[string]string{"has_memory": "3,8", "possible": "0-9", "online": "3,8", "node3/cpulist": "7", "node8/cpulist": "0,9"}, "3:7 8:0,9"},
		{"CPUs in no node", "0-5", map[string]string{"has_memory": "0-1", "possible": "0-1", "online": "0-1", "node0/cpulist": "0", "node1/cpulist": "1-2"}, "0:0,3-5 1:1-2"},
		{"impossible CPUs", "0-1", map[string]string{"has_memory": "0-1", "possible": "0-1", "online": "0-1", "node0/cpulist": "0-1", "node1/cpulist": "2-3"}, "0:0-1"},
		{"memory without CPUs", "0-3", map[string]string{"has_memory": "0-2", "possible": "0-2", "online": "0-2", "node0/cpulist": "0-1", "node1/cpulist": "2-3", "node2/cpulist": "\n"}, "0:0-1 1:2-3"},
		{"CPUs without memory", "0-3", map[string]string{"has_memory": "0,2", "possible": "0-2", "online": "0-2", "node0/cpulist": "0", "node1/cpulist": "1-2", "node2/cpulist": "3",
			"node1/distance": "20 10 12\n"}, "0:0 2:1-3"},
		{"their nearest has no CPUs", "0-1", map[string]string{"has_memory": "0,5", "possible": "0-7", "online": "0,3,5", "node0/cpulist": "0", "node3/cpulist": "1",
			"node3/distance": "30 10 12"}, "0:0 5:1"},
		{"the first node has no memory", "0-1", map[string]string{"has_memory": "1", "possible": "0-1", "online": "0-1", "node0/cpulist": "0", "node1/cpulist": "1"}, "1:0-1"},
		{"distances that nobody understands", "0-1", map[string]string{"has_memory": "0", "possible": "0-1", "online": "0-1", "node0/cpulist": "0", "node1/cpulist": "1", "node1/distance": "far 10"}, "0:0-1"},
		{"no lists", "0-1", map[string]string{"has_memory": "what?", "possible": "0-1"}, "0:0-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sys := fstest.MapFS{}
			for name, text := range tc.files {
				sys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			possible, err := ParseList(tc.possible)
			if err != nil {
				t.Fatal(err)
			}
			nodes, of := place(readNodes(sys), possible)
			if got := show(nodes, of, possible); got != tc.want {
				t.Errorf("%q; want %q", got, tc.want)
			}
		})
	}
}

// What this machine says makes sense, whatever it is.
func TestNodes(t *testing.T) {
	var all Mask
	for i, node := range Nodes() {
		if node.CPUs.Count() == 0 || i > 0 && node.ID <= Nodes()[i-1].ID {
			t.Errorf("node %d has CPUs %q; want some, and numbers that rise", node.ID, node.CPUs)
		}
		for n := range node.CPUs.All() {
			if all.Has(n) || NodeOf(n) != i {
				t.Errorf("CPU %d is in node %d; NodeOf says %d", n, i, NodeOf(n))
			}
			all.Set(n)
		}
	}
	if all.String() != Possible().String() {
		t.Errorf("the nodes have CPUs %q; want %q", all, Possible())
	}
}
