package slabattr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"slabfs/alloc"
	"slabfs/internal/cpu"
	"slabfs/internal/invariants"
	"slabfs/internal/leaktest"
	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// newTree returns an allocator with its files; both end with the test.
func newTree(t *testing.T) (*alloc.Allocator, *Tree) {
	t.Helper()
	return newTreeOf(t, alloc.Options{})
}

func newTreeOf(t *testing.T, o alloc.Options) (*alloc.Allocator, *Tree) {
	t.Helper()
	leaktest.Check(t)
	a, err := alloc.New(o)
	if err != nil {
		t.Fatal(err)
	}
	tree := New(a)
	t.Cleanup(func() {
		tree.Detach()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if n := a.Misuse(); n != 0 {
			t.Errorf("%d uses of released caches", n)
		}
	})
	return a, tree
}

// file finds a file by its path, or fails the test.
func (t *Tree) file(tb testing.TB, p string) *sysfs.File {
	tb.Helper()
	dir := t.tree.Root()
	for _, name := range strings.Split(path.Dir(p), "/") {
		next, ok := dir.Child(name).(*sysfs.Kobject)
		if !ok {
			tb.Fatalf("%s: no directory %q in %q", p, name, dir.Path())
		}
		dir = next
	}
	f, ok := dir.Child(path.Base(p)).(*sysfs.File)
	if !ok {
		tb.Fatalf("%s: no such file", p)
	}
	return f
}

func (t *Tree) cat(tb testing.TB, p string) string {
	tb.Helper()
	var w bytes.Buffer
	if err := t.file(tb, p).Show(context.Background(), &w); err != nil {
		tb.Errorf("cat %s: %v", p, err)
	}
	return w.String()
}

func (t *Tree) echo(tb testing.TB, text, p string) error {
	tb.Helper()
	_, err := t.file(tb, p).Store(context.Background(), []byte(text))
	return err
}

const slabDir = "sys/kernel/slab/"

// The files of a cache in Linux 6.18, in their order: all, but for those of debugging builds.
var (
	before = strings.Fields(`slab_size object_size objs_per_slab order sheaf_capacity min_partial cpu_partial objects_partial partial
		cpu_slabs ctor aliases align hwcache_align reclaim_account destroy_by_rcu shrink slabs_cpu_partial total_objects objects slabs
		sanity_checks trace red_zone poison store_user validate cache_dma remote_node_defrag_ratio`)
	stats = strings.Fields(`alloc_cpu_sheaf alloc_fastpath alloc_slowpath free_cpu_sheaf free_rcu_sheaf free_rcu_sheaf_fail free_fastpath
		free_slowpath free_frozen free_add_partial free_remove_partial alloc_from_partial alloc_slab alloc_refill alloc_node_mismatch
		free_slab cpuslab_flush deactivate_full deactivate_empty deactivate_to_head deactivate_to_tail deactivate_remote_frees
		deactivate_bypass order_fallback cmpxchg_double_fail cmpxchg_double_cpu_fail cpu_partial_alloc cpu_partial_free cpu_partial_node
		cpu_partial_drain sheaf_flush sheaf_refill sheaf_alloc sheaf_free barn_get barn_get_fail barn_put barn_put_fail
		sheaf_prefill_fast sheaf_prefill_slow sheaf_prefill_oversize sheaf_return_fast sheaf_return_slow`)
	after = []string{"usersize"}
)

// A machine that has no SLUB_STATS shows the other 30, with these modes.
func TestFiles(t *testing.T) {
	_, tree := newTree(t)
	var names []string
	modes := make(map[string]uint32)
	for _, n := range tree.tree.Root().Child("sys").(*sysfs.Kobject).Child("kernel").(*sysfs.Kobject).Child("slab").(*sysfs.Kobject).
		Child("kmalloc-64").(*sysfs.Kobject).Children() {
		names = append(names, n.Name())
	}
	for _, a := range cacheAttrs {
		modes[a.Name] = uint32(a.Mode)
	}
	if want := slices.Concat(before, stats, after); !slices.Equal(names, want) {
		t.Errorf("files of a cache: %v; want %v", names, want)
	}
	entries, err := os.ReadDir("/sys/kernel/slab/kmalloc-64")
	if err != nil {
		t.Skipf("no files of Linux to compare with: %v", err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode, ok := modes[e.Name()]; ok && mode != uint32(fi.Mode().Perm()) && e.Name() != "sheaf_capacity" {
			t.Errorf("%s has mode %o; in Linux %o", e.Name(), mode, fi.Mode().Perm())
		}
	}
}

// Formats of the files of a cache: what a parser may rely on.
var formats = func() map[string]*regexp.Regexp {
	const num, perNode = `\d+\n`, `(0|[1-9]\d*( N\d+=[1-9]\d*)+)\n`
	m := make(map[string]*regexp.Regexp)
	for expr, names := range map[string]string{
		num: "slab_size object_size objs_per_slab order sheaf_capacity min_partial cpu_partial aliases align " +
			"remote_node_defrag_ratio usersize",
		perNode:                           "objects_partial partial cpu_slabs total_objects objects slabs",
		`[01]\n`:                          "hwcache_align reclaim_account destroy_by_rcu",
		`0\n`:                             "sanity_checks trace red_zone poison store_user cache_dma",
		`(0|[1-9]\d*( C\d+=[1-9]\d*)+)\n`: strings.Join(stats, " "),
		`\d+\(\d+\)( C\d+=\d+\(\d+\))*\n`: "slabs_cpu_partial",
		`(\S+\+0x0/0x[0-9a-f]+\n)?`:       "ctor",
		``:                                "shrink validate",
	} {
		for name := range strings.FieldsSeq(names) {
			m[name] = regexp.MustCompile(`\A` + expr + `\z`)
		}
	}
	return m
}()

func TestFormats(t *testing.T) {
	a, tree := newTree(t)
	if _, err := a.NewCache("typesafe", 100, alloc.CacheOptions{Flags: alloc.TypesafeByRCU}); err != nil {
		t.Fatal(err)
	}
	c, err := a.NewCache("made", 100, alloc.CacheOptions{Ctor: func(p unsafe.Pointer) { *(*byte)(p) = 1 }, Flags: alloc.HWCacheAlign})
	if err != nil {
		t.Fatal(err)
	}
	var live []unsafe.Pointer
	for range 1000 {
		live = append(live, c.Alloc())
	}
	for _, name := range []string{"made", "typesafe", "kmalloc-8", "kmalloc-8k"} {
		for _, attr := range cacheAttrs {
			got := tree.cat(t, slabDir+name+"/"+attr.Name)
			if f := formats[attr.Name]; f == nil || !f.MatchString(got) {
				t.Errorf("%s/%s reads %q, which is not of the form %v", name, attr.Name, got, f)
			}
			mode := map[bool]uint32{false: 0o400, true: 0o600}[attr.Store != nil]
			if uint32(attr.Mode) != mode {
				t.Errorf("%s has mode %o; want %o", attr.Name, attr.Mode, mode)
			}
		}
	}
	for file, want := range map[string]string{
		"made/objects": "1000 N0=1000\n", "made/object_size": "100\n", "made/slab_size": "128\n", "made/align": "64\n",
		"made/hwcache_align": "1\n", "made/destroy_by_rcu": "0\n", "typesafe/destroy_by_rcu": "1\n", "made/usersize": "0\n", "kmalloc-8k/usersize": "8192\n",
		"kmalloc-64/cpu_partial": "120\n", "kmalloc-64/min_partial": "5\n", "kmalloc-64/sheaf_capacity": "60\n",
		"kmalloc-64/objects": "0\n", "kmalloc-64/aliases": "0\n", "kmalloc-64/remote_node_defrag_ratio": "100\n",
	} {
		if got := tree.cat(t, slabDir+file); got != want {
			t.Errorf("cat %s = %q; want %q", file, got, want)
		}
	}
	if got := tree.cat(t, slabDir+"made/ctor"); !strings.HasPrefix(got, "slabfs/sysfs/slabattr.TestFormats.func1+0x0/0x") {
		t.Errorf("ctor = %q; want this test's function", got)
	}
	c.FreeBulk(live)
}

// What the kernel answers to these bytes, and what is read afterwards.
func TestStores(t *testing.T) {
	_, tree := newTree(t)
	const einval, erange = syscall.EINVAL, syscall.ERANGE
	for _, tc := range []struct {
		file, text string
		err        syscall.Errno
		want       string
	}{
		{"cpu_partial", "30", 0, "30\n"},
		{"cpu_partial", "+000120\n", 0, "120\n"},
		{"cpu_partial", "120\x00junk", 0, "120\n"},
		{"cpu_partial", "0", 0, "0\n"},
		{"cpu_partial", "4294967295", 0, "4294967295\n"},
		{"cpu_partial", "4294967296", erange, "4294967295\n"},
		{"cpu_partial", "99999999999", erange, "4294967295\n"},
		{"cpu_partial", "18446744073709551616abc", erange, "4294967295\n"},
		{"cpu_partial", "99999999999abc", einval, "4294967295\n"},
		{"cpu_partial", "abc", einval, "4294967295\n"},
		{"cpu_partial", "-1", einval, "4294967295\n"},
		{"cpu_partial", " 5", einval, "4294967295\n"},
		{"cpu_partial", "5\n\n", einval, "4294967295\n"},
		{"cpu_partial", "\n", einval, "4294967295\n"},
		{"cpu_partial", "120", 0, "120\n"},
		{"min_partial", "99999999999", 0, "99999999999\n"},
		{"min_partial", "18446744073709551615", 0, "18446744073709551615\n"},
		{"min_partial", "18446744073709551616", erange, "18446744073709551615\n"},
		{"min_partial", "5", 0, "5\n"},
		{"min_partial", "0x10", einval, "5\n"},
		{"remote_node_defrag_ratio", "100", 0, "100\n"},
		{"remote_node_defrag_ratio", "101", erange, "100\n"},
		{"remote_node_defrag_ratio", "+0", 0, "0\n"},
		{"shrink", "1", 0, ""},
		{"shrink", "1abc", 0, ""},
		{"shrink", "0", einval, ""},
		{"shrink", "", einval, ""},
		{"shrink", "01", einval, ""},
		{"shrink", "+1", einval, ""},
		{"shrink", "\x00", einval, ""},
		{"sheaf_capacity", "31", 0, "31\n"},
		{"sheaf_capacity", "+060\n", 0, "60\n"},
		{"sheaf_capacity", "61", einval, "60\n"},
		{"sheaf_capacity", "4294967295", einval, "60\n"},
		{"sheaf_capacity", "4294967296", erange, "60\n"},
		{"sheaf_capacity", "18446744073709551616abc", erange, "60\n"},
		{"sheaf_capacity", "0\x00junk", 0, "0\n"},
		{"sheaf_capacity", "-0", einval, "0\n"},
		{"sheaf_capacity", "0x10", einval, "0\n"},
		{"sheaf_capacity", "\n", einval, "0\n"},
		{"sheaf_capacity", "60", 0, "60\n"},
		{"validate", "1", einval, ""},
		{"validate", "1\n", einval, ""},
		{"validate", "0", einval, ""},
		{"validate", "\x00", einval, ""},
		{"alloc_fastpath", "0", 0, "0\n"},
		{"alloc_slab", "0\n", 0, "0\n"},
		{"alloc_slab", "0abc", 0, "0\n"},
		{"alloc_slab", "00000000000000000000000", 0, "0\n"},
		{"alloc_slab", "1", einval, "0\n"},
		{"alloc_slab", "+0", einval, "0\n"},
		{"alloc_slab", " 0", einval, "0\n"},
		{"alloc_slab", "\n", einval, "0\n"},
		{"alloc_slab", "\x00", einval, "0\n"},
		{"alloc_slab", "", einval, "0\n"},
		{"order_fallback", "0\n", 0, "0\n"},
		{"order_fallback", "abc", einval, "0\n"},
	} {
		err := tree.echo(t, tc.text, slabDir+"kmalloc-64/"+tc.file)
		if !hasErrno(err, tc.err) {
			t.Errorf("echo %q > %s: %v; want %v", tc.text, tc.file, err, tc.err)
		}
		if got := tree.cat(t, slabDir+"kmalloc-64/"+tc.file); got != tc.want {
			t.Errorf("after %q, %s reads %q; want %q", tc.text, tc.file, got, tc.want)
		}
	}
}

// hasErrno tells whether err comes out of a mount as that number, 0 for no error.
func hasErrno(err error, want syscall.Errno) bool {
	switch want {
	case 0:
		return err == nil
	case syscall.EINVAL:
		return errors.Is(err, sysfs.ErrSyntax) || errors.Is(err, sysfs.ErrInvalid) || errors.Is(err, want)
	case syscall.ERANGE:
		return errors.Is(err, sysfs.ErrRange)
	default:
		return errors.Is(err, want)
	}
}

func TestControlFiles(t *testing.T) {
	a, tree := newTree(t)
	const create, destroy = "sys/module/slabfs/new_cache", "sys/module/slabfs/delete_cache"
	for _, tc := range []struct {
		file, text string
		err        syscall.Errno
	}{
		{create, "foo 100 flags=no_merge\n", 0},
		{create, "foo 100 flags=no_merge\n", syscall.EEXIST},
		{create, "bar 4194304 align=4096 flags=hwcache_align,reclaim_account", 0},
		{create, "units 4k align=2K", 0},
		{create, "kmalloc-64 64", syscall.EEXIST},
		{create, "baz", syscall.EINVAL},
		{create, "", syscall.EINVAL},
		{create, "baz 0", syscall.EINVAL},
		{create, "baz -1", syscall.EINVAL},
		{create, "baz 4194305", syscall.EINVAL},
		{create, "baz 99999999999999999999", syscall.EINVAL},
		{create, "baz 1x", syscall.EINVAL},
		{create, "baz 5M", syscall.EINVAL},
		{create, "baz 99999999T", syscall.EINVAL},
		{create, ".baz 10", syscall.EINVAL},
		{create, "b/z 10", syscall.EINVAL},
		{create, strings.Repeat("x", 61) + " 10", syscall.EINVAL},
		{create, strings.Repeat("x", 60) + " 10", 0},
		{create, "baz 10 align=3", syscall.EINVAL},
		{create, "baz 10 align=0", syscall.EINVAL},
		{create, "baz 10 align=8192", syscall.EINVAL},
		{create, "baz 10 flags=", syscall.EINVAL},
		{create, "baz 10 flags=what", syscall.EINVAL},
		{create, "typesafe 10 flags=typesafe_by_rcu", 0},
		{create, "typesafe 10 flags=typesafe_by_rcu", syscall.EEXIST},
		{destroy, "typesafe", 0},
		{create, "typesafe 10 flags=typesafe_by_rcu", 0}, // while the old one waits, perhaps
		{create, "baz 10 align=8 align=8", syscall.EINVAL},
		{create, "baz 10 colour=red", syscall.EINVAL},
		{create, "baz 10\nqux 10\n", syscall.EINVAL},
		{create, "baz\u008510", syscall.EINVAL},
		{create, "baz\u202810", syscall.EINVAL},
		{create, "baz 10\u00a0", syscall.EINVAL},
		{create, "baz 10 align=8\u2003", syscall.EINVAL},
		{create, "\u2029baz 10", syscall.EINVAL},
		{create, "  tab\t10 \talign=8\t ", 0},
		{destroy, "tab", 0},
		{destroy, "nobody\n", syscall.ENOENT},
		{destroy, "\n", syscall.ENOENT},
		{destroy, "kmalloc-64\n", syscall.EPERM},
		{destroy, "foo\n", 0},
		{destroy, "foo\n", syscall.ENOENT},
		{create, "foo 64", 0},
	} {
		if err := tree.echo(t, tc.text, tc.file); !hasErrno(err, tc.err) {
			t.Errorf("echo %q > %s: %v; want %v", tc.text, path.Base(tc.file), err, tc.err)
		}
	}
	if got := tree.cat(t, slabDir+"units/object_size") + tree.cat(t, slabDir+"units/align"); got != "4096\n2048\n" {
		t.Errorf("object_size and align of units = %q; want 4096, 2048", got)
	}
	if got := tree.cat(t, slabDir+"bar/align"); got != "4096\n" {
		t.Errorf("bar/align = %q; want 4096", got)
	}
	if _, err := a.NewCache("own", 10, alloc.CacheOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := tree.echo(t, "own", destroy); !hasErrno(err, syscall.EPERM) {
		t.Errorf("delete_cache of a cache without ShellDelete: %v; want EPERM", err)
	}
}

func FuzzParseCache(f *testing.F) {
	f.Add("foo 100 align=64 flags=no_merge,hwcache_align")
	f.Add("foo\t1\n")
	f.Fuzz(func(t *testing.T, s string) {
		name, size, o, err := parseCache(s)
		if err != nil {
			if name != "" || !errors.Is(err, alloc.ErrInvalid) {
				t.Errorf("parseCache(%q) = %q, %v; want no name and ErrInvalid", s, name, err)
			}
			return
		}
		if strings.ContainsAny(name, " \t\n") || name == "" || !strings.Contains(s, strconv.Itoa(size)) && !strings.ContainsAny(s, "+0kKmMgG\x00") || !o.ShellDelete {
			t.Errorf("parseCache(%q) = %q, %d, %+v", s, name, size, o)
		}
	})
}

func TestBusy(t *testing.T) {
	a, tree := newTree(t)
	if err := tree.echo(t, "foo 100", "sys/module/slabfs/new_cache"); err != nil {
		t.Fatal(err)
	}
	var c *alloc.Cache
	for _, d := range a.Caches() {
		if d.Name() == "foo" {
			c = d
		}
	}
	obj := c.Alloc()
	if err := tree.echo(t, "foo", "sys/module/slabfs/delete_cache"); !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "1 objects") {
		t.Errorf("delete_cache with a live object: %v; want EBUSY and the number", err)
	}
	if got := tree.cat(t, slabDir+"foo/objects"); got != "1 N0=1\n" {
		t.Errorf("objects = %q after EBUSY; want 1", got)
	}
	f := tree.file(t, slabDir+"foo/objects")
	c.Free(obj)
	if err := tree.echo(t, "foo", "sys/module/slabfs/delete_cache"); err != nil {
		t.Errorf("delete_cache of an empty cache: %v", err)
	}
	var w bytes.Buffer
	if err := f.Show(context.Background(), &w); !errors.Is(err, sysfs.ErrGone) {
		t.Errorf("a file of the destroyed cache reads %q, %v; want ErrGone", w.String(), err)
	}
}

// At rest after a write to cpu_partial the kernel's equation holds exactly.
func TestEquation(t *testing.T) {
	a, tree := newTree(t)
	var live [][]byte
	for i := range 5000 {
		b := a.Bytes(64)
		if i%3 == 0 {
			live = append(live, b)
		} else {
			a.FreeBytes(b)
		}
	}
	for i := 0; i < len(live); i += 2 {
		a.FreeBytes(live[i])
		live[i] = nil
	}
	first := func(name string) int {
		n, err := strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(tree.cat(t, slabDir+"kmalloc-64/"+name)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	cached := a.CachedBytes()
	if err := tree.echo(t, "30", slabDir+"kmalloc-64/cpu_partial"); err != nil {
		t.Fatal(err)
	}
	objects, total, partial, per, inPartial := first("objects"), first("total_objects"), first("partial"), first("objs_per_slab"), first("objects_partial")
	if objects != total-partial*per+inPartial || objects != len(live)/2 {
		t.Errorf("objects %d, total %d, partial %d of %d, in use there %d; want %d live and objects == total - partial*per + in use",
			objects, total, partial, per, inPartial, len(live)/2)
	}
	if got := tree.cat(t, slabDir+"kmalloc-64/slabs_cpu_partial"); got != "0(0)\n" {
		t.Errorf("slabs_cpu_partial = %q after the write; want 0(0)", got)
	}
	if now := a.CachedBytes(); now >= cached {
		t.Errorf("cached_bytes %d before the write, %d after", cached, now)
	}
	for _, b := range live {
		a.FreeBytes(b)
	}
}

var slabinfoLine = regexp.MustCompile(`^[A-Za-z0-9_.-]+ +\d+ +\d+ +\d+ +\d+ +\d+ : tunables +0 +0 +0 : slabdata +\d+ +\d+ +0$`)

func checkSlabinfo(t *testing.T, text string) (names []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != "slabinfo - version: 2.1" || !strings.HasPrefix(lines[1], "# name ") {
		t.Errorf("slabinfo begins with %q", lines[:2])
	}
	seen := make(map[string]bool)
	for _, line := range lines[2:] {
		if !slabinfoLine.MatchString(line) || len(strings.Fields(line)) != 16 {
			t.Errorf("slabinfo has the line %q", line)
			continue
		}
		name := strings.Fields(line)[0]
		if seen[name] {
			t.Errorf("slabinfo has %q twice", name)
		}
		seen[name] = true
		names = append(names, name)
	}
	return names
}

func TestSlabinfo(t *testing.T) {
	a, tree := newTree(t)
	if _, err := a.NewCache("youngest", 10, alloc.CacheOptions{}); err != nil {
		t.Fatal(err)
	}
	names := checkSlabinfo(t, tree.cat(t, "proc/slabinfo"))
	if len(names) != 14 || names[0] != "youngest" || names[13] != "kmalloc-8" {
		t.Errorf("slabinfo lists %v; want 14, newest first", names)
	}
}

// Caches that come and go during a read tear no line.
func TestChurn(t *testing.T) {
	_, tree := newTree(t)
	const create, destroy = "sys/module/slabfs/new_cache", "sys/module/slabfs/delete_cache"
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := tree.echo(t, name+" 100", create); err != nil {
					t.Errorf("create %s: %v", name, err)
				}
				if err := tree.echo(t, name, destroy); err != nil {
					t.Errorf("destroy %s: %v", name, err)
				}
			}
		})
	}
	for range 200 {
		checkSlabinfo(t, tree.cat(t, "proc/slabinfo"))
		runtime.Gosched()
	}
	close(stop)
	wg.Wait()
}

func TestParameters(t *testing.T) {
	a, tree := newTree(t)
	const dir = "sys/module/slabfs/"
	for file, want := range map[string]string{
		"version": Version + "\n", "parameters/percpu_engine": a.Engine().String() + "\n", "parameters/memory_limit": "0\n",
		"parameters/percpu_unregistered": "0\n", "parameters/memory_waiting": "0\n", "parameters/rcu_grace_periods": "0\n",
		"parameters/huge_pages": a.HugePages() + "\n",
	} {
		if got := tree.cat(t, dir+file); got != want {
			t.Errorf("cat %s = %q; want %q", file, got, want)
		}
	}
	used := a.MemoryUsed()
	b := a.Bytes(1 << 20)
	if got := tree.cat(t, dir+"parameters/memory_large"); got != "1048576\n" {
		t.Errorf("memory_large = %q with a mebibyte of Bytes; want 1048576", got)
	}
	if got, want := tree.cat(t, dir+"parameters/memory_used"), strconv.FormatInt(used+1<<20, 10)+"\n"; got != want {
		t.Errorf("memory_used = %q with a mebibyte more; want %q", got, want)
	}
	a.FreeBytes(b)

	section := a.RCU().ReadLock()
	c, err := a.NewCache("typesafe", 4096, alloc.CacheOptions{Flags: alloc.TypesafeByRCU})
	if err != nil {
		t.Fatal(err)
	}
	c.Free(c.Alloc())
	c.Shrink()
	if got := tree.cat(t, dir+"parameters/memory_waiting"); got != "32768\n" {
		t.Errorf("memory_waiting = %q with one empty slab; want 32768", got)
	}
	a.RCU().ReadUnlock(section)
	if err := a.RCU().Barrier(); err != nil {
		t.Fatal(err)
	}
	if got := tree.cat(t, dir+"parameters/memory_waiting") + tree.cat(t, dir+"parameters/rcu_grace_periods"); got != "0\n1\n" {
		t.Errorf("memory_waiting, rcu_grace_periods = %q after a grace period; want 0, 1", got)
	}
	for _, tc := range []struct {
		text string
		err  syscall.Errno
		want string
	}{
		{"1048576\n", 0, "1048576\n"},
		{"9223372036854775808", syscall.ERANGE, "1048576\n"},
		{"2M\n", 0, "2097152\n"},
		{"3k", 0, "3072\n"},
		{"1G", 0, "1073741824\n"},
		{"8388608T", syscall.ERANGE, "1073741824\n"},
		{"M", syscall.EINVAL, "1073741824\n"},
		{"1MB", syscall.EINVAL, "1073741824\n"},
		{"0", 0, "0\n"},
	} {
		if err := tree.echo(t, tc.text, dir+"parameters/memory_limit"); !hasErrno(err, tc.err) {
			t.Errorf("echo %q > memory_limit: %v; want %v", tc.text, err, tc.err)
		}
		if got := tree.cat(t, dir+"parameters/memory_limit"); got != tc.want {
			t.Errorf("memory_limit = %q after %q; want %q", got, tc.text, tc.want)
		}
	}
	number := func(file string) int64 {
		t.Helper()
		n, err := strconv.ParseInt(strings.TrimSuffix(tree.cat(t, dir+"parameters/"+file), "\n"), 10, 64)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	a.FreeBytes(a.Bytes(64))
	for file, want := range map[string]int64{
		"sheaf_bytes": a.SheafBytes(), "barn_bytes": a.BarnBytes(), "cpu_slab_bytes": a.CPUSlabBytes(), "cached_bytes": a.CachedBytes(),
		"percpu_bytes": a.PerCPUBytes(), "metadata_bytes": a.MetadataBytes(), "memory_mapped": a.MemoryMapped(), "memory_returns": int64(a.MemoryReturns()),
	} {
		if got := number(file); got != want {
			t.Errorf("%s = %d; want %d", file, got, want)
		}
	}
	if got, want := number("cached_bytes"), number("sheaf_bytes")+number("barn_bytes")+number("cpu_slab_bytes"); got != want || got == 0 {
		t.Errorf("cached_bytes = %d; its parts are %d", got, want)
	}
	noHuge := syscall.Errno(0)
	if errors.Is(a.SetHugePages(true), alloc.ErrNotBuilt) {
		noHuge = syscall.EINVAL
	}
	for _, tc := range []struct {
		text string
		err  syscall.Errno
	}{
		{"always\n", noHuge}, {"system\n", syscall.EINVAL}, {"1", syscall.EINVAL}, {"always never", syscall.EINVAL}, {"never", noHuge},
	} {
		before := tree.cat(t, dir+"parameters/huge_pages")
		err := tree.echo(t, tc.text, dir+"parameters/huge_pages")
		if !hasErrno(err, tc.err) {
			t.Errorf("echo %q > huge_pages: %v; want %v", tc.text, err, tc.err)
		}
		want := before
		if err == nil {
			want = strings.TrimSuffix(tc.text, "\n") + "\n"
		}
		if got := tree.cat(t, dir+"parameters/huge_pages"); got != want {
			t.Errorf("huge_pages = %q after %q; want %q", got, tc.text, want)
		}
	}
	for _, list := range []string{"possible", "present", "online", "offline"} {
		got := tree.cat(t, "sys/devices/system/cpu/"+list)
		if want, err := os.ReadFile("/sys/devices/system/cpu/" + list); err == nil && got != string(want) {
			t.Errorf("%s = %q; the machine's is %q", list, got, want)
		}
	}
}

// A monitor learns from files what else only a crash or a log would tell.
func TestTroubleIsInFiles(t *testing.T) {
	a, tree := newTree(t)
	const dir = "sys/module/slabfs/parameters/"
	c, err := a.NewCache("tight", 4096, alloc.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a.SetMemoryLimit(1)
	for name, refused := range map[string]func() bool{
		"Alloc":       func() bool { return c.Alloc() == nil },
		"AllocZeroed": func() bool { return c.AllocZeroed() == nil },
		"AllocBulk":   func() bool { return !c.AllocBulk(make([]unsafe.Pointer, 3)) },
		"Bytes(8192)": func() bool { return a.Bytes(8192) == nil },
		"Bytes(1e6)":  func() bool { return a.Bytes(1e6) == nil },
		"most Bytes":  func() bool { return a.Bytes(math.MaxInt) == nil },
	} {
		before := a.MemoryRefused()
		if !refused() || tree.cat(t, dir+"memory_refused") != fmt.Sprintln(before+1) {
			t.Errorf("memory_refused = %q after %s at the limit, of which %d were before; want one more", tree.cat(t, dir+"memory_refused"), name, before)
		}
	}
	a.SetMemoryLimit(0)
	if invariants.Enabled {
		return // the second Free panics
	}
	obj := c.Alloc()
	c.Free(obj)
	c.Free(obj)
	c.Shrink()
	if got := tree.cat(t, dir+"damage"); got != "1\n" {
		t.Errorf("damage = %q after an object was freed twice; want 1", got)
	}
}

// Each CPU that can be has a file that takes it offline and brings it back, and the lists say so.
func TestOnline(t *testing.T) {
	a, tree := newTree(t)
	const dir = "sys/devices/system/cpu/"
	possible := slices.Collect(a.Hotplug().Possible().All())
	file := func(n int) string { return dir + "cpu" + strconv.Itoa(n) + "/online" }
	lists := func(what string, want cpu.Mask) {
		t.Helper()
		offline := cpu.MaskOf()
		for _, n := range possible {
			text := "1\n"
			if !want.Has(n) {
				offline.Set(n)
				text = "0\n"
			}
			if got := tree.cat(t, file(n)); got != text {
				t.Errorf("%s: %s reads %q; want %q", what, file(n), got, text)
			}
		}
		if on, off := tree.cat(t, dir+"online"), tree.cat(t, dir+"offline"); on != want.String()+"\n" || off != offline.String()+"\n" {
			t.Errorf("%s: online %q, offline %q; want %q, %q", what, on, off, want, offline)
		}
	}
	all := cpu.MaskOf(possible...)
	lists("at first", all)
	if len(possible) < 2 {
		if err := tree.echo(t, "0\n", file(possible[0])); !hasErrno(err, syscall.EBUSY) {
			t.Errorf("echo 0 > %s: %v; want EBUSY", file(possible[0]), err)
		}
		return
	}
	for _, n := range possible {
		rest := all.Clone()
		rest.Clear(n)
		for _, text := range []string{"0\n", "n", "off\n", "00 whatever"} {
			if err := tree.echo(t, text, file(n)); err != nil {
				t.Errorf("echo %q > %s: %v", text, file(n), err)
			}
			lists(text, rest)
		}
		for _, text := range []string{"", "\n", "2", "-1", " 1", "online", "o", "\x001"} {
			want := syscall.EINVAL
			if text == "online" { // begins with on
				want = 0
			}
			if err := tree.echo(t, text, file(n)); !hasErrno(err, want) {
				t.Errorf("echo %q > %s: %v; want %v", text, file(n), err, want)
			}
			if want == 0 {
				lists(text, all)
				if err := tree.echo(t, "f", file(n)); err != nil {
					t.Error(err)
				}
			}
			lists(text, rest)
		}
		if err := tree.echo(t, "1", file(n)); err != nil {
			t.Errorf("echo 1 > %s: %v", file(n), err)
		}
		lists("back", all)
	}
	last := possible[len(possible)-1]
	for _, n := range possible[:len(possible)-1] {
		if err := tree.echo(t, "0", file(n)); err != nil {
			t.Errorf("echo 0 > %s: %v", file(n), err)
		}
	}
	if err := tree.echo(t, "0", file(last)); !hasErrno(err, syscall.EBUSY) {
		t.Errorf("echo 0 > the last CPU online: %v; want EBUSY", err)
	}
	lists("the last", cpu.MaskOf(last))
	a.Hotplug().RLock()
	ctx, cancel := context.WithCancel(context.Background())
	waited, stored := a.Hotplug().WritersWaited(), make(chan error)
	go func() {
		_, err := tree.file(t, file(last)).Store(ctx, []byte("1"))
		stored <- err
	}()
	for a.Hotplug().WritersWaited() == waited {
		runtime.Gosched()
	}
	cancel()
	if err := <-stored; !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted store: %v; want context.Canceled", err)
	}
	a.Hotplug().RUnlock()
}

func TestPerCPU(t *testing.T) {
	for _, tc := range []struct {
		counts []uint64
		want   string
	}{
		{nil, "0"},
		{[]uint64{0, 0}, "0"},
		{[]uint64{7}, "7 C0=7"},
		{[]uint64{0, 3, 0, 40}, "43 C1=3 C3=40"},
	} {
		if got := perCPU(tc.counts); got != tc.want {
			t.Errorf("perCPU(%v) = %q; want %q", tc.counts, got, tc.want)
		}
	}
	_, tree := newTree(t)
	got := tree.cat(t, "sys/module/slabfs/parameters/percpu_aborts")
	if want := regexp.MustCompile(`^(0|[1-9]\d*( C\d+=[1-9]\d*)+)\n$`); !want.MatchString(got) {
		t.Errorf("percpu_aborts = %q", got)
	}
}

// Each file has an entry in docs/abi, and each entry there a file.
func TestDocumented(t *testing.T) {
	var text []byte
	for _, page := range []string{"slab.md", "lockdep.md"} {
		b, err := os.ReadFile("../../docs/abi/" + page)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
	}
	_, tree := newTree(t)
	entries := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^(?:### |\\| )`([^`]+/[^`]+)`").FindAllStringSubmatch(string(text), -1) {
		entries[m[1]] = true
	}
	files := make(map[string]bool)
	var walk func(k *sysfs.Kobject)
	walk = func(k *sysfs.Kobject) {
		for _, n := range k.Children() {
			switch n := n.(type) {
			case *sysfs.Kobject:
				if k.Path() != "/sys/kernel/slab" || n.Name() == "kmalloc-8" {
					walk(n)
				}
			case *sysfs.File:
				path := strings.Replace(n.Path()[1:], "/slab/kmalloc-8/", "/slab/CACHE/", 1)
				files[regexp.MustCompile(`/cpu\d+/`).ReplaceAllString(path, "/cpuN/")] = true
			}
		}
	}
	walk(tree.tree.Root())
	for f := range files {
		if !entries[f] {
			t.Errorf("docs/abi has no entry for %s", f)
		}
	}
	for e := range entries {
		unchecked := strings.HasPrefix(e, "proc/lockdep") && !lockdep.Enabled()
		if !files[e] && !unchecked && !strings.HasPrefix(e, "sys/module/slabfs/load/") { // of the command
			t.Errorf("docs/abi has an entry for %s, which is no file", e)
		}
	}
}
