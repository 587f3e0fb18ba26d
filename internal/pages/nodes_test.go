package pages

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// nodesEnv says how many memory nodes there are, instead of the machine's.
const nodesEnv = "SLABFS_TEST_NODE_COUNT"

// onNodes runs the test again where there are so many nodes, and reports true there.
func onNodes(t *testing.T, n int) bool {
	t.Helper()
	if os.Getenv(nodesEnv) != "" {
		return os.Getenv(nodesEnv) == fmt.Sprint(n)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), nodesEnv+"="+fmt.Sprint(n))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a child process with %d nodes: %v\n%s", n, err, out)
	}
	return false
}

// Blocks and runs are of the node that they were asked of, and go back there.
func TestNodes(t *testing.T) {
	for _, n := range []int{2, 4} {
		if onNodes(t, n) {
			randomPrograms(t, 20)
		}
	}
}

// A node's blocks are used again by who asks for that node, and by others when no address
// space is left.
func TestNodesShare(t *testing.T) {
	if !onNodes(t, 2) {
		return
	}
	alloc := func(order, node int) Page {
		t.Helper()
		p, err := Alloc(order, node)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := alloc(0, 1)
	Free(p, 0)
	q := alloc(0, 0)
	if again := alloc(0, 1); again != p || Node(p) != 1 || Node(q) != 0 {
		t.Errorf("page %d of node %d, then %d; page %d of node %d; want the same page of node 1, and one of node 0", p, Node(p), again, q, Node(q))
	}
	defer func(limit Page) { heap.limit = limit }(heap.limit)
	heap.limit = Page(heap.end.Load()) // address space of each node: growStep pages less one block, less the page in use
	got := [2][]Page{}
	for {
		p, err := Alloc(MaxOrder, 1)
		if errors.Is(err, ErrNoMemory) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got[Node(p)] = append(got[Node(p)], p)
		if Node(p) == 0 && len(got[1]) != growStep/blockPages-2 && len(got[1]) != growStep/blockPages-1 {
			t.Fatalf("block %d of node 0 after %d of node 1, which has more", p, len(got[1]))
		}
	}
	if all := len(got[0]) + len(got[1]); all != 2*growStep/blockPages-3 {
		t.Errorf("%d blocks of node 0, %d of node 1; want %d together", len(got[0]), len(got[1]), 2*growStep/blockPages-3)
	}
	for _, p := range append(got[0], got[1]...) {
		Free(p, MaxOrder)
	}
	checkHeap(t)
	// Runs of more than one block, of which the last may lie in both nodes' memory.
	var runs []Page
	for {
		p, err := AllocRun(3*blockPages, 1)
		if err != nil {
			break
		}
		runs = append(runs, p)
	}
	if want := 9; len(runs) < want {
		t.Errorf("%d runs of 3 blocks; want %d at least", len(runs), want)
	}
	for _, p := range runs {
		FreeRun(p, 3*blockPages)
	}
	Free(p, 0)
	Free(q, 0)
	checkHeap(t)
}
