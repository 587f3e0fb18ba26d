//go:build !race

package pages

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/proctest"
)

// lockEnv says which flags of mlockall a child process locks its memory with, before it
// reserves anything.
const lockEnv = "SLABFS_TEST_MLOCKALL"

// notPermitted is the status of a child process that may not lock so much memory.
const notPermitted = 77

func init() {
	beforeReserve = func() {
		var flags int
		if n, _ := fmt.Sscan(os.Getenv(lockEnv), &flags); n == 0 {
			return
		}
		if err := unix.Mlockall(flags); err != nil {
			fmt.Println("mlockall:", err)
			os.Exit(notPermitted)
		}
	}
}

// inChild runs the test again in a process of its own with more in the environment, and
// reports true there.
func inChild(t *testing.T, env ...string) bool {
	t.Helper()
	const child = "SLABFS_TEST_CHILD"
	mark := t.Name() + strings.Join(env, " ")
	if of := os.Getenv(child); of != "" {
		return of == mark
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), child+"="+mark), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == notPermitted {
		t.Skipf("%s; is there a limit, ulimit -l?", out)
	}
	if err == nil && strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Skipf("in a child process:\n%s", out)
	}
	if err != nil {
		t.Errorf("in a child process with %q: %v\n%s", env, err, out)
	}
	return false
}

// allocBlocks returns blocks of the largest order, each of its pages touched, n at most.
func allocBlocks(t *testing.T, n int) (blocks []Page, err error) {
	t.Helper()
	for range n {
		p, err := Alloc(MaxOrder, len(blocks)%nodes())
		if err != nil {
			return blocks, err
		}
		for i := range Page(blockPages) {
			*(*byte)(At(p + i)) = 1
		}
		blocks = append(blocks, p)
	}
	return blocks, nil
}

// dataSize returns what RLIMIT_DATA counts of this process.
func dataSize(t *testing.T) uint64 { return uint64(proctest.Status(t, "VmData")) }

// Under RLIMIT_DATA most of what it leaves can be used, what is only reserved does not
// count, and when it is raised allocation goes on.
func TestDataLimit(t *testing.T) {
	for _, node := range []string{"1", "2"} {
		if !inChild(t, nodesEnv+"="+node) {
			continue
		}
		const left, slack = 40 << 20, 16 << 20
		if n := dataSize(t); n > 256<<20 {
			t.Errorf("%d MiB count before anything is allocated", n>>20)
		}
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_DATA, &old); err != nil {
			t.Fatal(err)
		}
		limit := unix.Rlimit{Cur: dataSize(t) + left, Max: old.Max}
		if err := unix.Setrlimit(unix.RLIMIT_DATA, &limit); err != nil {
			t.Fatal(err)
		}
		blocks, err := allocBlocks(t, 100)
		if e := unix.Setrlimit(unix.RLIMIT_DATA, &old); e != nil {
			t.Fatal(e)
		}
		if got := len(blocks) * blockPages << Shift; got < left-slack || got > left {
			t.Errorf("%d bytes with %d left under the limit", got, left)
		}
		if !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "ulimit -d") {
			t.Errorf("at the limit: %v; want ErrNoMemory, and where to look", err)
		}
		checkHeap(t)
		var of []int
		for _, p := range blocks {
			of = append(of, Node(p))
		}
		more, err := allocBlocks(t, 40)
		if err != nil {
			t.Errorf("with a higher limit: %v", err)
		}
		for i, p := range blocks {
			if Node(p) != of[i] {
				t.Errorf("block %d was of node %d, and is of node %d", p, of[i], Node(p))
			}
		}
		for _, p := range append(blocks, more...) {
			Free(p, MaxOrder)
		}
		checkHeap(t)
		randomPrograms(t, 3)
	}
}

// Where the process locks all of its memory, there is memory for what is usable at once: it
// is counted, little of it, and it goes back.
func TestMlockall(t *testing.T) {
	for _, flags := range []int{unix.MCL_FUTURE, unix.MCL_CURRENT | unix.MCL_FUTURE, unix.MCL_FUTURE | unix.MCL_ONFAULT} {
		if !inChild(t, fmt.Sprint(lockEnv, "=", flags)) {
			continue
		}
		check := func(what string) {
			t.Helper()
			if got := residentPages(t, At(0), uintptr(heap.end.Load())<<Shift) << Shift; got != Mapped() {
				t.Errorf("%s: %d bytes have memory; Mapped says %d", what, got, Mapped())
			}
			if got := residentPages(t, At(Page(heap.end.Load())), 256<<20); got != 0 {
				t.Errorf("%s: %d pages have memory behind the last one", what, got)
			}
			checkHeap(t)
		}
		check("at first")
		if Mapped() != 0 {
			t.Errorf("%d bytes mapped before anything is allocated", Mapped())
		}
		blocks, err := allocBlocks(t, 6)
		if err != nil {
			t.Fatal(err)
		}
		const n = 16
		p, err := AllocRun(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range Page(n) {
			*(*byte)(At(p + i)) = 1
		}
		check("in use")
		for _, p := range blocks {
			Free(p, MaxOrder)
		}
		before, warm := Returns(), Warm()
		if given := Return(0); given != warm || Warm() != 0 || Returns() == before {
			t.Errorf("Return(0) = %d in %d calls, %d are left; want %d", given, Returns()-before, Warm(), warm)
		}
		check("given back")
		FreeRun(p, n)
		Return(0)
		check("all given back")
		randomPrograms(t, 3)
	}
}

// What the system refuses to take back, as locked memory before Linux 5.18, is not counted as
// given back.
func TestReturnRefused(t *testing.T) {
	if !inChild(t, fmt.Sprint(lockEnv, "=", unix.MCL_FUTURE)) {
		return
	}
	discards = []int{unix.MADV_DONTNEED}
	blocks, err := allocBlocks(t, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range blocks {
		Free(p, MaxOrder)
	}
	mapped, warm := Mapped(), Warm()
	if given := Return(0); given != 0 || Returns() != 0 || Warm() != warm || Mapped() != mapped {
		t.Errorf("Return(0) = %d in %d calls, %d are free, %d mapped; want 0, 0, %d, %d", given, Returns(), Warm(), Mapped(), warm, mapped)
	}
	ReturnIdle(0, 0, 0)
	if ReturnIdle(0, 0, 0) || Returns() != 0 {
		t.Errorf("%d calls gave memory back, or more is expected of the next", Returns())
	}
	checkHeap(t)
}

// Core dumps have what is usable, and leave out what is only reserved.
func TestCoreDump(t *testing.T) {
	if !inChild(t) {
		return
	}
	at, err := AllocBits(8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := allocBlocks(t, 3); err != nil {
		t.Fatal(err)
	}
	begin, end := uintptr(bitmaps.base), uintptr(At(heap.limit))
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var from, to, dumped, reserved uintptr
	var perm string
	in := make(map[uintptr]bool) // the last bytes before addresses that have to be dumped
	for _, p := range []unsafe.Pointer{At(heap.grown - 1), Desc(heap.grown - 2), Desc(heap.grown - 1), unsafe.Pointer(owner(heap.grown - 1)), unsafe.Pointer(word(at))} {
		in[uintptr(p)] = false
	}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var a, b uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s ", &a, &b, &perm); n == 3 {
			from, to = a, b
			continue
		}
		flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:")
		if !ok || to <= begin || from >= end {
			continue
		}
		out := slices.Contains(strings.Fields(flags), "dd")
		if usable := perm[0] == 'r'; usable == out {
			t.Errorf("mapping %x-%x %s: left out of dumps: %v", from, to, perm, out)
		}
		if out {
			reserved += to - from
			continue
		}
		dumped += to - from
		for p := range in {
			in[p] = in[p] || from <= p && p < to
		}
	}
	for p, ok := range in {
		if !ok {
			t.Errorf("address %#x is in no dump", p)
		}
	}
	if most := uintptr(heap.grown)<<Shift*11/10 + 2*bitsStep; dumped > most || reserved < uintptr(heap.limit)<<Shift/2 {
		t.Errorf("%d bytes are dumped, %d left out; want %d at most, and %d reserved", dumped, reserved, most, uintptr(heap.limit)<<Shift)
	}
}
