package slabattr

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/internal/cpu"
)

// nodesEnv makes two CPUs, "0,1", stand for memory nodes 0 and 3.
const nodesEnv = "SLABFS_TEST_TWO_NODES"

func fakeNodes() {
	if first, second, found := strings.Cut(os.Getenv(nodesEnv), ","); found {
		var nodes []cpu.Node
		for _, n := range []struct {
			id  int
			cpu string
		}{{0, first}, {3, second}} {
			cpus, err := cpu.ParseList(n.cpu)
			if err != nil {
				panic(err)
			}
			nodes = append(nodes, cpu.Node{ID: n.id, CPUs: cpus})
		}
		cpu.FakeNodes(nodes)
	}
}

// Files show what each node has, by the system's number of it, and the total is the sum.
func TestNodes(t *testing.T) {
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Skipf("no CPU affinity here: %v", err)
	}
	var cpus []int
	for n := range cpu.Possible().All() {
		if may.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	if len(cpus) < 2 {
		t.Skipf("one CPU only: %v", cpus)
	}
	if os.Getenv(nodesEnv) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNodes$", "-test.v")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%d", nodesEnv, cpus[0], cpus[1]))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a child process: %v\n%s", err, out)
		}
		return
	}
	a, tree := newTree(t)
	c, err := a.NewCache("nodes", 64, alloc.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var live []unsafe.Pointer
	exact := true
	for i, n := range cpus[:2] {
		cpu.Aside(func() {
			var one unix.CPUSet
			one.Set(n)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Error(err)
			}
			exact = exact && cpu.Current(1<<16) == n
			for range 1000 * (i + 1) {
				live = append(live, c.Alloc())
			}
		})
	}
	if !exact {
		t.Skip("the CPU cannot be read")
	}
	file := func(name string) string { return tree.cat(t, slabDir+"nodes/"+name) }
	perSlab := c.Stats().ObjectsPerSlab
	slabs := []int{(1000 + perSlab - 1) / perSlab, (2000 + perSlab - 1) / perSlab}
	for name, want := range map[string]string{
		"objects":         "3000 N0=1000 N3=2000\n",
		"slabs":           fmt.Sprintf("%d N0=%d N3=%d\n", slabs[0]+slabs[1], slabs[0], slabs[1]),
		"total_objects":   fmt.Sprintf("%d N0=%d N3=%d\n", (slabs[0]+slabs[1])*perSlab, slabs[0]*perSlab, slabs[1]*perSlab),
		"partial":         "0\n",
		"objects_partial": "0\n",
	} {
		if got := file(name); got != want {
			t.Errorf("%s reads %q; want %q", name, got, want)
		}
	}
	for i, obj := range live { // on whatever CPU
		if i%7 != 0 {
			c.Free(obj)
		}
	}
	c.Shrink()
	counts := regexp.MustCompile(`\d+`)
	for _, name := range []string{"objects", "objects_partial", "partial", "total_objects", "slabs"} {
		var n []int
		for _, text := range counts.FindAllString(strings.NewReplacer("N0=", "", "N3=", "").Replace(file(name)), -1) {
			v, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, v)
		}
		if len(n) != 3 || n[0] != n[1]+n[2] || !formats[name].MatchString(file(name)) {
			t.Errorf("%s reads %q; want what two nodes have, and the sum first", name, file(name))
		}
	}
	if got := file("cpu_slabs"); got != "0\n" {
		t.Errorf("cpu_slabs reads %q after a shrink", got)
	}
	for i, obj := range live {
		if i%7 == 0 {
			c.Free(obj)
		}
	}
}
