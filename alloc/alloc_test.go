package alloc

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/leaktest"
	"slabfs/internal/lockdep"
	"slabfs/internal/pages"
)

var (
	opsFlag      = flag.Int("slabfs.ops", 5_000_000, "operations of a stress test")
	seedFlag     = flag.Uint64("slabfs.seed", 0, "seed of random tests; 0: a new one each time")
	deadlineFlag = flag.Duration("slabfs.deadline", 3*time.Minute, "how long something may take before it counts as a deadlock")
)

// childEnv names the test that a child process is started for.
const childEnv = "SLABFS_TEST_CHILD"

// possibleEnv lists the CPUs that the tests take for possible, instead of the machine's.
const possibleEnv = "SLABFS_TEST_POSSIBLE"

// nodesEnv lists the CPUs of the memory nodes that the tests take for the machine's: "0-3;4-7".
const nodesEnv = "SLABFS_TEST_NODES"

// pageSizeEnv is the size of the system's page in bytes that the tests take for the machine's.
const pageSizeEnv = "SLABFS_TEST_PAGE_SIZE"

const oneNode = "0" // and all other CPUs, since no node has them

func TestMain(m *testing.M) {
	flag.Parse()
	if strings.HasPrefix(os.Getenv(childEnv), "cond:") {
		lockdep.UseCond()
	}
	if list := os.Getenv(possibleEnv); list != "" {
		m, err := cpu.ParseList(list)
		if err != nil {
			panic(err)
		}
		cpu.FakePossible(m)
	}
	if n := os.Getenv(pageSizeEnv); n != "" {
		bytes, err := strconv.Atoi(n)
		if err != nil {
			panic(err)
		}
		pages.FakeSystemPage(bytes)
	}
	if lists := os.Getenv(nodesEnv); lists != "" {
		var nodes []cpu.Node
		for id, list := range strings.Split(lists, ";") {
			cpus, err := cpu.ParseList(list)
			if err != nil {
				panic(err)
			}
			nodes = append(nodes, cpu.Node{ID: id, CPUs: cpus})
		}
		cpu.FakeNodes(nodes)
	}
	os.Exit(lockdep.Status(m.Run()))
}

// inChild runs the test again in a process of its own, and reports true in that
// process. With cond, testing/synctest sees there who waits for a Mutex.
func inChild(t *testing.T, cond bool) bool {
	t.Helper()
	mark := "plain:" + t.Name()
	if cond {
		mark = "cond:" + t.Name()
	}
	if os.Getenv(childEnv) == mark {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprint("-slabfs.seed=", *seedFlag))
	cmd.Env = append(os.Environ(), childEnv+"="+mark)
	out, err := cmd.CombinedOutput()
	if err == nil && strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Skipf("in a child process:\n%s", out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a child process: %v\n%s", err, out)
	}
	return false
}

// random returns a source whose seed is printed.
func random(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	tb.Logf("-slabfs.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// scaled returns n, divided where the test binary is slow or is asked to be short.
func scaled(n int) int {
	if pages.GoMemory || testing.Short() {
		n /= 8
	}
	return max(n, 1)
}

// within ends the program with all stacks if f does not return.
func within(what string, f func()) {
	t := time.AfterFunc(*deadlineFlag, func() {
		debug.SetTraceback("all")
		panic("deadlock: " + what)
	})
	defer t.Stop()
	f()
}

// mustPanic runs f, which has to panic with a text that holds each of want.
func mustPanic(tb testing.TB, f func(), want ...string) {
	tb.Helper()
	defer func() {
		tb.Helper()
		got := fmt.Sprint(recover())
		for _, w := range want {
			if !strings.Contains(got, w) {
				tb.Errorf("panic: %s; want one that holds %q", got, w)
			}
		}
	}()
	f()
}

// openAllocators counts those that newAllocator made and that are not closed.
var openAllocators atomic.Int32

// newAllocator returns an allocator that is closed when the test ends, which has
// to give back all of its memory, and to leave no goroutine.
func newAllocator(tb testing.TB, o Options) *Allocator {
	tb.Helper()
	before, closed := leaktest.Take(), false
	tb.Cleanup(func() {
		if openAllocators.Load() > 0 || !closed { // its workers come and go, or stay
			return
		}
		if err := before.Left(); err != nil {
			tb.Error(err)
		}
	})
	a, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	openAllocators.Add(1)
	tb.Cleanup(func() {
		within("Close", func() {
			err := a.Close()
			if closed = err == nil || strings.Contains(err.Error(), ErrClosed.Error()); !closed {
				tb.Errorf("Close: %v", err)
			}
		})
		checkNothingLeft(tb, a)
	})
	return a
}

// checkNothingLeft fails unless a closed allocator has given everything back.
func checkNothingLeft(tb testing.TB, a *Allocator) {
	tb.Helper()
	if n := a.MemoryUsed(); n != 0 {
		tb.Errorf("%d bytes in use after Close", n)
	}
	if n := a.areas.Load(); n != 0 {
		tb.Errorf("%d bytes of sheaves open after Close", n)
	}
	if n := a.Misuse(); n != 0 {
		tb.Errorf("released caches were used %d times", n)
	}
	if n := openAllocators.Add(-1); n == 0 && pages.Warm() != pages.Mapped() {
		tb.Errorf("%d bytes of pages have memory, %d of them are free: some were lost", pages.Mapped(), pages.Warm())
	}
}

func newCache(tb testing.TB, a *Allocator, name string, size int, o CacheOptions) *Cache {
	tb.Helper()
	c, err := a.NewCache(name, size, o)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func destroy(tb testing.TB, c *Cache) {
	tb.Helper()
	if err := c.Destroy(); err != nil {
		tb.Error(err)
	}
}

// allocN returns n objects.
func allocN(tb testing.TB, c *Cache, n int) []unsafe.Pointer {
	tb.Helper()
	objs := make([]unsafe.Pointer, n)
	for i := range objs {
		if objs[i] = c.Alloc(); objs[i] == nil {
			tb.Fatalf("Alloc of object %d of %d from %q = nil", i, n, c.Name())
		}
	}
	return objs
}

func freeAll(c *Cache, objs []unsafe.Pointer) {
	for _, obj := range objs {
		c.Free(obj)
	}
}

// flush puts all free objects of a cache back to their slabs.
func flush(tb testing.TB, c *Cache) {
	tb.Helper()
	if err := c.SetCPUPartial(c.CPUPartial()); err != nil {
		tb.Error(err)
	}
}

// bytesAt returns the memory of an object.
func bytesAt(obj unsafe.Pointer, size int) []byte { return unsafe.Slice((*byte)(obj), size) }

// stamp writes a value over an object's first and last bytes.
func stamp(b []byte, v uint64) {
	var w [8]byte
	binary.LittleEndian.PutUint64(w[:], v)
	n := min(len(b), 8)
	copy(b[len(b)-n:], w[:])
	copy(b, w[:n])
}

// stamped reports whether stamp wrote v.
func stamped(b []byte, v uint64) bool {
	var w [8]byte
	binary.LittleEndian.PutUint64(w[:], v)
	n := min(len(b), 8)
	return string(b[:n]) == string(w[:n]) && (len(b) < 16 || string(b[len(b)-8:]) == string(w[:]))
}

// checkUnlocked takes every lock of the allocator in their order, and ends the
// program if one of them stays taken. It also uses what they guard.
func checkUnlocked(a *Allocator) {
	within("a lock stays taken", func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.reclaimer.mu.Lock()
			a.hotplug.Lock()
			a.mu.Lock()
			a.flushLock.Lock()
			for _, k := range *a.cores.Load() {
				k.lockCPUs()
				for _, n := range k.nodes {
					n.mu.Lock()
					n.mu.Unlock()
				}
				k.unlockCPUs()
			}
			a.flushLock.Unlock()
			a.mu.Unlock()
			a.hotplug.Unlock()
			a.reclaimer.mu.Unlock()
			if p, err := pages.AllocRun(1, 0); err == nil {
				pages.FreeRun(p, 1)
			}
		}()
		<-done
	})
}

// A recorder is a logger that remembers. It uses the allocator as it likes,
// since nobody may log with a lock held.
type recorder struct {
	mu    lockdep.Mutex
	lines []string
	a     *Allocator
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }

func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	if r.a != nil {
		checkUnlocked(r.a)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// take returns the lines since the last call.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// recordingAllocator is newAllocator with a logger that remembers.
func recordingAllocator(tb testing.TB, o Options) (*Allocator, *recorder) {
	tb.Helper()
	r := new(recorder)
	o.Logger = slog.New(r)
	r.a = newAllocator(tb, o)
	return r.a, r
}

// checkRest walks over all slabs of a cache that nobody uses now, and fails
// unless every object is in exactly one place: live, on a sheaf, in its node's barn or
// free in its slab; and unless every counter says what the walk found, on each node.
func checkRest(tb testing.TB, c *Cache, live []unsafe.Pointer) {
	tb.Helper()
	k := c.core
	type content struct{ free, cached, live int }
	slabs := make(map[pages.Page]*content)
	type figures struct {
		slabs, total, objects, partial, objectsPartial, cpuSlabs, cached int
	}
	var sum figures
	want := make([]figures, len(k.nodes))
	free, cpuFree, partialFree := make([]int, len(k.nodes)), make([]int, len(k.nodes)), make([]int, len(k.nodes))
	for p := pages.Page(0); ; p += 1 << k.order {
		if _, ok := pages.Of(pages.At(p)); !ok {
			break
		}
		if pages.Owner(p) != k.number {
			continue
		}
		s := new(content)
		for i, w := range k.freeWords(slabAt(p)) {
			s.free += bits.OnesCount64(w)
			if rest := k.objects - i*64; rest < 64 && w>>rest != 0 {
				tb.Errorf("slab %d: word %d of its bitmap is %#x, with %d objects left", p, i, w, rest)
			}
		}
		slabs[p] = s
		free[pages.Node(p)] += s.free
		want[pages.Node(p)].slabs++
		want[pages.Node(p)].total += k.objects
		if in := int(slabAt(p).inUse); in+s.free != k.objects {
			tb.Errorf("slab %d: %d in use, %d free; want %d together", p, in, s.free, k.objects)
		}
		if where := slabAt(p).where; where == onNone && s.free > 0 || where == underWay {
			tb.Errorf("slab %d: %d objects free, but it is on no list (%d)", p, s.free, where)
		}
	}
	seen := make(map[unsafe.Pointer]string)
	find := func(kind string, obj unsafe.Pointer) (*content, *figures) {
		p, i, exact := k.find(obj)
		s := slabs[p]
		switch {
		case s == nil || !exact:
			tb.Errorf("%s object %p is no object of %q", kind, obj, c.Name())
			return new(content), new(figures)
		case k.freeWords(slabAt(p))[i/64]>>(i%64)&1 != 0:
			tb.Errorf("%s object %p is also free in its slab", kind, obj)
		case seen[obj] != "":
			tb.Errorf("%s object %p is also a %s one", kind, obj, seen[obj])
		}
		seen[obj] = kind
		return s, &want[pages.Node(p)]
	}
	cached := func(kind string, obj unsafe.Pointer) {
		s, f := find(kind, obj)
		s.cached++
		f.cached++
	}
	for _, obj := range live {
		s, f := find("live", obj)
		s.live++
		f.objects++
	}
	onList := func(l *slabList, n *node, where uint8) (free int) {
		count, prev := 0, pages.Page(0)
		for p := l.head; p != 0 && count <= len(slabs); p = slabAt(p).next {
			s := slabAt(p)
			if slabs[p] == nil || s.where != where || s.prev != prev || pages.Node(p) != n.at {
				tb.Errorf("slab %d on list %d of node %d: where %d, prev %d; want prev %d, owner %d, node %d", p, where, n.at, s.where, s.prev, prev, k.number, pages.Node(p))
				break
			}
			free += slabs[p].free
			prev = p
			count++
		}
		if count != l.n || l.tail != prev {
			tb.Errorf("list %d: %d slabs found, %d counted; tail %d, last %d", where, count, l.n, l.tail, prev)
		}
		return free
	}
	k.a.flushLock.Lock()
	k.lockCPUs()
	for i, pc := range k.cpus {
		if pc == nil {
			continue
		}
		if pc.off == k.a.hotplug.Online().Has(i) {
			tb.Errorf("CPU %d: off is %v; online are %v", i, pc.off, k.a.hotplug.Online())
		}
		if level, some := pc.area.Level(), make([]uintptr, 1); pc.off && (level != 0 || pc.slabs.n != 0 || pc.area.PushBulk(some) > 0) {
			pc.area.PopBulk(some)
			tb.Errorf("CPU %d is offline, but holds %d objects and %d slabs, or its sheaf is open", i, level, pc.slabs.n)
		}
		if pc.open.Load() {
			pc.area.Close()
			objs := pc.area.Drain(nil)
			pc.area.Undo(objs)
			k.reopen(pc)
			for _, obj := range objs {
				cached("sheaf", pointer(obj))
			}
			if pc.rests && len(objs) > 0 || !pc.rests && !k.active.Load() {
				tb.Errorf("CPU %d: a sheaf of %d objects rests: %v; the core is active: %v", i, len(objs), pc.rests, k.active.Load())
			}
			if most := int(k.sheafCap.Load()); len(objs) > most {
				tb.Errorf("CPU %d: %d objects on a sheaf for %d", i, len(objs), most)
			}
		} else if pc.area.Level() != 0 {
			tb.Errorf("CPU %d: an area that is not open holds %d objects", i, pc.area.Level())
		}
		cpuFree[pc.node.at] += onList(&pc.slabs, pc.node, onCPU)
		want[pc.node.at].cpuSlabs += pc.slabs.n
		if got := int(pc.n.Load()); got != pc.slabs.n {
			tb.Errorf("CPU %d: %d slabs counted, %d kept", i, got, pc.slabs.n)
		}
	}
	empty := make([]int, len(k.nodes))
	for p, s := range slabs {
		if s.free == k.objects {
			empty[pages.Node(p)]++
		}
	}
	for i, n := range k.nodes {
		n.mu.Lock()
		if n.empty != empty[i] {
			tb.Errorf("node %d: %d empty slabs counted; found %d", i, n.empty, empty[i])
		}
		if !k.active.Load() && len(n.barn)+n.empty+cpuFree[i] > 0 {
			tb.Errorf("node %d: %d objects in the barn, %d empty slabs, %d objects free on CPUs' slabs of a core that is not active", i, len(n.barn), n.empty, cpuFree[i])
		}
		for _, obj := range n.barn {
			cached("barn", pointer(obj))
			if home := k.nodeOf(k.slabOf(pointer(obj))); home != n {
				tb.Errorf("object %#x of node %d is in the barn of node %d", obj, home.at, i)
			}
		}
		if most := barnSheaves * k.batch(); len(n.barn) > most || len(n.barn) > 0 && k.sheafCap.Load() == 0 {
			tb.Errorf("%d objects in the barn, with sheaves for %d; want %d at most", len(n.barn), k.sheafCap.Load(), most)
		}
		partialFree[i] = onList(&n.partial, n, onNode)
		want[i].partial = n.partial.n
		want[i].objectsPartial = n.partial.n*k.objects - partialFree[i]
		if got := int(n.inBarn.Load()); got != len(n.barn) {
			tb.Errorf("%d objects in the barn counted, %d found", got, len(n.barn))
		}
		if f, cf := int(n.free.Load()), int(n.cpuFree.Load()); f != free[i] || cf != cpuFree[i] {
			tb.Errorf("node %d: %d free objects counted, %d of them on CPUs' slabs; found %d, %d", i, f, cf, free[i], cpuFree[i])
		}
		if free[i] != cpuFree[i]+partialFree[i] {
			tb.Errorf("node %d: %d objects are free in slabs, but %d on CPUs' lists and %d on the partial list", i, free[i], cpuFree[i], partialFree[i])
		}
		n.mu.Unlock()
	}
	k.unlockCPUs()
	k.a.flushLock.Unlock()
	for p, s := range slabs {
		if s.live+s.cached+s.free != k.objects {
			tb.Errorf("slab %d: %d live + %d cached + %d free objects; want %d", p, s.live, s.cached, s.free, k.objects)
		}
	}
	s := c.Stats()
	for i, n := range s.Nodes {
		got := figures{n.Slabs, n.TotalObjects, n.Objects, n.Partial, n.ObjectsPartial, n.CPUSlabs, n.Cached}
		if got != want[i] || n.Node != cpu.Nodes()[i].ID {
			tb.Errorf("Stats of node %d of %q = %+v; the walk found %+v", n.Node, c.Name(), got, want[i])
		}
		w := want[i]
		sum = figures{sum.slabs + w.slabs, sum.total + w.total, sum.objects + w.objects, sum.partial + w.partial,
			sum.objectsPartial + w.objectsPartial, sum.cpuSlabs + w.cpuSlabs, sum.cached + w.cached}
	}
	if got := (figures{s.Slabs, s.TotalObjects, s.Objects, s.Partial, s.ObjectsPartial, s.CPUSlabs, s.Cached}); got != sum {
		tb.Errorf("Stats of %q = %+v; the walk found %+v", c.Name(), got, sum)
	}
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// The owner of a page has 32 bits: a cache too many is refused, and not one with the number of nobody.
func TestNumbersEnd(t *testing.T) {
	a := newAllocator(t, Options{})
	defer nextNumber.Store(nextNumber.Swap(math.MaxUint32 - 1))
	last := newCache(t, a, "last", 64, CacheOptions{})
	last.Free(last.Alloc())
	if _, err := a.NewCache("more", 64, CacheOptions{}); !errors.Is(err, ErrNoMemory) {
		t.Errorf("NewCache without a number: %v; want ErrNoMemory", err)
	}
	if _, err := New(Options{}); !errors.Is(err, ErrNoMemory) {
		t.Errorf("New without a number: %v; want ErrNoMemory", err)
	}
	destroy(t, last)
}
