package percpu

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

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
	"slabfs/internal/proctest"
)

// What the process that a test starts again looks like.
const (
	childEnv = "SLABFS_TEST_CHILD"
	cpusEnv  = "SLABFS_TEST_CPUS"     // how many CPUs are possible
	lockEnv  = "SLABFS_TEST_MLOCKALL" // flags of mlockall, before anything is reserved
	pageEnv  = "SLABFS_TEST_PAGE_SIZE"

	cannotLock = 77 // its status where it may not lock so much
)

// prepare makes the process what a test asked for.
func prepare() {
	var cpus, flags, page int
	if n, _ := fmt.Sscan(os.Getenv(cpusEnv), &cpus); n == 1 {
		var m cpu.Mask
		for i := range cpus {
			m.Set(i)
		}
		cpu.FakePossible(m)
	}
	if n, _ := fmt.Sscan(os.Getenv(pageEnv), &page); n == 1 {
		pages.FakeSystemPage(page)
	}
	if n, _ := fmt.Sscan(os.Getenv(lockEnv), &flags); n == 1 {
		if err := unix.Mlockall(flags); err != nil {
			fmt.Println("mlockall:", err)
			os.Exit(cannotLock)
		}
	}
}

// inChild runs the test again in a process of its own with more in the
// environment, and reports true there.
func inChild(t *testing.T, env ...string) bool {
	t.Helper()
	mark := t.Name() + strings.Join(env, " ")
	if child := os.Getenv(childEnv); child != "" {
		return child == mark
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), childEnv+"="+mark), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == cannotLock {
		t.Skipf("%s; is there a limit, ulimit -l?", out)
	}
	if err != nil {
		t.Errorf("in a process with %q: %v\n%s", env, err, out)
	}
	return false
}

// A mapping is a line of /proc/self/smaps with what matters of those below it.
type mapping struct {
	from, to uintptr
	perm     string
	rss      uintptr
	dumped   bool
}

// mappings returns what is mapped where the regions are.
func mappings(t *testing.T) (all []mapping) {
	t.Helper()
	begin, end := uintptr(regions.base), uintptr(regions.base)+uintptr(regions.limit)<<regions.shift
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var m mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x %s ", &from, &to, &m.perm); n == 3 {
			m.from, m.to = max(from, begin), min(to, end)
			continue
		}
		if n, _ := fmt.Sscanf(line, "Rss: %d kB", &m.rss); n == 1 {
			m.rss <<= 10
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && m.from < m.to {
			m.dumped = !slices.Contains(strings.Fields(flags), "dd")
			all = append(all, m)
		}
	}
	return all
}

// touchAll writes the last byte of an area on each CPU.
func (p taken) touchAll() {
	for n := range regions.limit {
		*(*byte)(unsafe.Add(unsafe.Pointer(At(p.end(), n)), -1)) = 1
	}
}

// checkUsable finds that the regions are usable as far as they have grown, that
// core dumps have that and nothing else, and how much memory is behind all of it.
func checkUsable(t *testing.T) (rss uintptr) {
	t.Helper()
	for _, m := range mappings(t) {
		usable := m.perm[0] == 'r'
		if usable != m.dumped {
			t.Fatalf("%x-%x %s: in core dumps: %v", m.from, m.to, m.perm, m.dumped)
		}
		for n := range regions.limit {
			begin := uintptr(unsafe.Pointer(At(0, n)))
			if grown := begin + uintptr(regions.grown); usable && m.to > grown && m.from < begin+1<<regions.shift || !usable && m.from < grown && m.to > begin {
				t.Fatalf("%x-%x %s: the region of CPU %d at %x is usable up to %x", m.from, m.to, m.perm, n, begin, grown)
			}
		}
		rss += m.rss
	}
	return rss
}

// Regions of many CPUs cost what is used of them, also where the process locks
// all of its memory.
func TestRegionsGrow(t *testing.T) {
	const cpus = 64
	for _, env := range [][]string{
		{},
		{fmt.Sprint(lockEnv, "=", unix.MCL_FUTURE)},
		{fmt.Sprint(lockEnv, "=", unix.MCL_CURRENT|unix.MCL_FUTURE)},
		{pageEnv + "=16384"},
		{pageEnv + "=65536"},
	} {
		if !inChild(t, append(env, fmt.Sprint(cpusEnv, "=", cpus))...) {
			continue
		}
		page := Place(pages.SystemPage())
		most := func(used Place) uintptr { return cpus * uintptr(used+page+min(used+page, growStep)) }
		for n := range cpus { // sequences look at these whatever happens
			if *At(0, n) != (Area{}) {
				t.Errorf("the closed area of CPU %d: %+v", n, *At(0, n))
			}
		}
		var all []taken
		for used := Place(granule); used < 512<<10; {
			if rss := checkUsable(t); rss > most(used) {
				t.Fatalf("%d bytes of memory for %d bytes of places on %d CPUs; want %d at most", rss, used, cpus, most(used))
			}
			p := take(t, len(all)*200%MaxCap)
			p.touchAll()
			used = p.end()
			all = append(all, p)
		}
		checkPlaces(t, all, 1<<regions.shift)
		for _, p := range all {
			FreePlace(p.place, p.capacity, cpu.Possible())
		}
	}
}

// Under RLIMIT_DATA regions are not counted before they are used. Where no more
// can be used, NewPlace says so, and goes on when there is more.
func TestDataLimit(t *testing.T) {
	// Regions grow by a page of each CPU at least, 4 MiB here. So 3 MiB of the rest
	// stay for Go, which ends the process where it gets none.
	const cpus, left = 1024, 64<<20 + 3<<20
	if !inChild(t, fmt.Sprint(cpusEnv, "=", cpus)) {
		return
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &old); err != nil {
		t.Fatal(err)
	}
	before := dataSize(t)
	if before > 512<<20 {
		t.Errorf("%d MiB count before a place is taken", before>>20)
	}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: before + left, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	var err error
	var used Place
	for err == nil {
		var p Place
		if p, err = NewPlace(60); err == nil {
			used = p
		}
	}
	if e := unix.Setrlimit(unix.RLIMIT_DATA, &old); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "ulimit -d") {
		t.Errorf("%v; want ErrNoSpace, and where to look", err)
	}
	if most := Place(left / cpus); used > most+128<<10 || used < most/2 {
		t.Errorf("places reach up to %d with %d bytes left for each CPU", used, most)
	}
	p := take(t, MaxCap)
	p.touchAll()
	checkUsable(t)
}

// dataSize returns what RLIMIT_DATA counts of this process.
func dataSize(t *testing.T) uint64 { return uint64(proctest.Status(t, "VmData")) }
