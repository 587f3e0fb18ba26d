package cpu

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// childEnv has this binary run one of children instead of its tests.
const childEnv = "SLABFS_TEST_CHILD"

var children = map[string]func() bool{
	"probe":   probeFromMain,
	"no list": knowsItsCPU,
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv(childEnv)]; child != nil {
		if !child() {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child runs one of children, with a single processor of Go's.
func child(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+name, "GOMAXPROCS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("child %q: %v\n%s", name, err, out)
	}
}

// probeFromMain probes where the main thread would take the goroutine of the
// probe, and reports whether that thread may run where it might before.
func probeFromMain() bool {
	before := unix.NewCPUSet(maxCPU)
	after := unix.NewCPUSet(maxCPU)
	main := os.Getpid()
	if err := unix.SchedGetaffinityDynamic(main, before); err != nil {
		panic(err)
	}
	Current(1)
	if err := unix.SchedGetaffinityDynamic(main, after); err != nil {
		panic(err)
	}
	if !slices.Equal(before, after) {
		println("the main thread may run on", after.Count(), "CPUs; want", before.Count())
		return false
	}
	return true
}

// The probe binds a thread to single CPUs. That must not be the main thread, which
// lives on.
func TestProbeLeavesMainThread(t *testing.T) {
	for range 10 { // once in a while other threads take the goroutine
		child(t, "probe")
	}
}

// knowsItsCPU reports whether the CPU that the process is bound to is possible
// where the system has no list.
func knowsItsCPU() bool {
	may, possible := affinity(), readPossible(fstest.MapFS{})
	for n := range maxCPU {
		if may.IsSet(n) && !possible.Has(n) {
			println("CPU", n, "is not possible; these are:", possible.String())
			return false
		}
	}
	return true
}

// Without /sys, as in a sandbox, a process that may only use the CPU with the
// highest number takes that one for possible.
func TestNoList(t *testing.T) {
	last := 0
	for n, may := 0, affinity(); n < maxCPU; n++ {
		if may.IsSet(n) {
			last = n
		}
	}
	Aside(func() {
		one := unix.NewCPUSet(last + 1)
		one.Set(last)
		if err := unix.SchedSetaffinityDynamic(0, one); err != nil {
			t.Errorf("bind to CPU %d: %v", last, err)
			return
		}
		child(t, "no list") // which inherits that
	})
	none := readPossible(fstest.MapFS{})
	for n := range Possible().All() {
		if !none.Has(n) {
			t.Errorf("CPU %d is possible, and not where the system has no list: %v", n, none)
		}
	}
}

// Aside never runs on the main thread, and runs on another one each time.
func TestAside(t *testing.T) {
	seen := make(map[int]bool)
	for range 20 {
		inner := 0
		Aside(func() {
			outer := unix.Gettid()
			Aside(func() { inner = unix.Gettid() })
			if outer == inner || outer == os.Getpid() || inner == os.Getpid() {
				t.Errorf("threads %d and %d of process %d", outer, inner, os.Getpid())
			}
		})
		seen[inner] = true
	}
	if len(seen) < 2 {
		t.Errorf("20 calls ran on the same thread")
	}
}
