package pages

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// Under a limit on address space less is reserved, and enough is left for the program.
func TestAddressSpaceLimit(t *testing.T) {
	if GoMemory {
		t.Skip("the race detector needs more address space than any limit")
	}
	if runtime.GOOS != "linux" {
		t.Skipf("no limit on address space is known on %s", runtime.GOOS)
	}
	const child = "SLABFS_TEST_LIMIT"
	if os.Getenv(child) != "" {
		t.Logf("%d MiB reserved", heap.limit>>8)
		heapMemory := make([]byte, 256<<20)
		runProgram(t, []byte{0, 4, 40, 0xfd, 2, 2, 3, 0xfd, 2})
		runtime.KeepAlive(heapMemory)
		return
	}
	for _, mib := range []int{2200, 3000, 5000, 20_000, 50_000, 200_000, 2_000_000} {
		cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -v %d && exec "$0" "$@"`, mib<<10), os.Args[0], "-test.run=^TestAddressSpaceLimit$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("with %d MiB of address space: %v\n%s", mib, err, out)
		} else {
			t.Logf("with %d MiB: %s", mib, out)
		}
	}
}
