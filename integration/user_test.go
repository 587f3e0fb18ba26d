package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
)

// A session is one server with load, a client of the user who serves, and one
// of a user who has no rights there.
type session struct {
	*server
	c, stranger *testclient.Client
}

// Everything that a user does, by root on any number of CPUs and on one, and by
// a user who may mount with fusermount3 only.
func TestSeenByRoot(t *testing.T) {
	needRoot(t)
	t.Parallel()
	seen(t, root)
}

func TestSeenByRootOnOneProcessor(t *testing.T) {
	needRoot(t)
	t.Parallel()
	seen(t, user{env: []string{"GOMAXPROCS=1"}})
}

func TestSeenByPlainUser(t *testing.T) {
	t.Parallel()
	if asPlainUser(t) {
		seen(t, user{uid: testclient.Nobody})
	}
}

func seen(t *testing.T, u user) {
	s := &session{server: u.mount(t, u.newDir(t, true), "--load", "--lockdep", "--cache", "req:200:no_merge,hwcache_align")}
	s.c = u.client(t)
	s.stranger = user{uid: testclient.Nobody - 1}.client(t)
	for _, tc := range []struct {
		name string
		run  func(*testing.T, *session)
	}{
		{"tune", seenTuning},
		{"flush", seenFlush},
		{"create and destroy", seenCreateAndDestroy},
		{"live objects", seenLiveObjects},
		{"permissions", seenPermissions},
		{"memory limit", seenMemoryLimit},
		{"hotplug", seenHotplug},
		{"tree", seenTree},
		{"locks", seenLocks},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, s) })
	}
	s.c.Kill()
	s.stranger.Kill()
	s.signal(unix.SIGTERM)
	s.wantStatus(0)
	if errs := s.errs.String(); errs != "" {
		t.Errorf("standard error:\n%swant nothing", errs)
	}
}

// number returns what a file begins with.
func (s *session) number(t testing.TB, path string) int {
	t.Helper()
	text := cat(s.c, path)
	word, _, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Fatalf("%s: %q does not begin with a number", path, text)
	}
	return n
}

// rest brings the caches to rest until the test ends.
func (s *session) rest(t *testing.T) {
	t.Helper()
	running := s.module("load/running")
	echo(s.c, running, "0")
	t.Cleanup(func() { echo(s.c, running, "1") })
}

func seenTuning(t *testing.T, s *session) {
	path := s.attr("kmalloc-64", "cpu_partial")
	want := func(what, want string) {
		t.Helper()
		if got := cat(s.c, path); got != want {
			t.Errorf("%s: reads %q; want %q", what, got, want)
		}
	}
	want("at first", "120\n")
	echo(s.c, path, "30")
	want("after echo 30", "30\n")
	for text, errno := range map[string]unix.Errno{
		"abc": unix.EINVAL, "": unix.EINVAL, " 5": unix.EINVAL, "-1": unix.EINVAL, "0x10": unix.EINVAL, "5 6": unix.EINVAL,
		"99999999999": unix.ERANGE, "4294967296": unix.ERANGE, "18446744073709551616": unix.ERANGE,
	} {
		echoWant(s.c, errno, path, text)
		want(fmt.Sprintf("after echo %q failed", text), "30\n")
	}
	for _, tc := range []struct{ text, shows string }{
		{"+31", "31\n"}, {"0032", "32\n"}, {"0", "0\n"}, {"4294967295", "4294967295\n"}, {"120", "120\n"},
	} {
		echo(s.c, path, tc.text)
		want("after echo "+tc.text, tc.shows)
	}
	if r := s.c.OK(Op{Do: "echo", Path: path}); r.N != 0 {
		t.Errorf("an empty write: %d bytes; want 0", r.N)
	}
	want("after an empty write", "120\n")
	for _, tc := range []struct {
		file, text string
		errno      unix.Errno
	}{
		{"remote_node_defrag_ratio", "101", unix.ERANGE}, {"remote_node_defrag_ratio", "x", unix.EINVAL},
		{"min_partial", "18446744073709551616", unix.ERANGE}, {"min_partial", "x", unix.EINVAL},
		{"shrink", "0", unix.EINVAL},
	} {
		path := s.attr("kmalloc-64", tc.file)
		before := cat(s.c, path)
		echoWant(s.c, tc.errno, path, tc.text)
		if got := cat(s.c, path); got != before {
			t.Errorf("%s after a failed write of %q: %q; want %q", tc.file, tc.text, got, before)
		}
	}
	echo(s.c, s.attr("kmalloc-64", "shrink"), "1")
	if got := cat(s.c, s.attr("kmalloc-64", "shrink")); got != "" {
		t.Errorf("shrink reads %q; want nothing", got)
	}
}

// cpuPartial is what slabs_cpu_partial shows when CPUs keep slabs: "96(3) C0=32(1) C1=64(2)".
var cpuPartial = regexp.MustCompile(`^[1-9]\d*\([1-9]\d*\)( C\d+=\d+\([1-9]\d*\))+\n$`)

// What a write to cpu_partial flushes, on a cache at rest.
func seenFlush(t *testing.T, s *session) {
	for _, cache := range []string{"kmalloc-64", "load-small"} {
		partial := s.attr(cache, "slabs_cpu_partial")
		eventually(t, cache+": a CPU keeps partial slabs at rest", func() bool {
			echo(s.c, s.module("load/running"), "1")
			echo(s.c, s.module("load/running"), "0")
			return cpuPartial.MatchString(cat(s.c, partial))
		})
		s.rest(t)
		objects, cached := cat(s.c, s.attr(cache, "objects")), s.number(t, s.module("parameters/cached_bytes"))
		echo(s.c, s.attr(cache, "cpu_partial"), "30")
		if got := cat(s.c, partial); got != "0(0)\n" {
			t.Errorf("%s: slabs_cpu_partial = %q after the flush; want 0(0)", cache, got)
		}
		if got := cat(s.c, s.attr(cache, "objects")); got != objects {
			t.Errorf("%s: objects = %q after the flush; want %q as before", cache, got, objects)
		}
		if got := s.number(t, s.module("parameters/cached_bytes")); got >= cached {
			t.Errorf("%s: cached_bytes = %d after the flush; want less than the %d before", cache, got, cached)
		}
		n := make(map[string]int)
		for _, name := range []string{"objects", "total_objects", "partial", "objs_per_slab", "objects_partial", "slabs", "cpu_slabs"} {
			n[name] = s.number(t, s.attr(cache, name))
		}
		if n["objects"] != n["total_objects"]-n["partial"]*n["objs_per_slab"]+n["objects_partial"] || n["objects"] == 0 {
			t.Errorf("%s: after the flush %v; want objects == total_objects - partial*objs_per_slab + objects_partial", cache, n)
		}
		if n["cpu_slabs"] != 0 || n["total_objects"] != n["slabs"]*n["objs_per_slab"] {
			t.Errorf("%s: after the flush %v; want cpu_slabs == 0, total_objects == slabs*objs_per_slab", cache, n)
		}
	}
}

func seenCreateAndDestroy(t *testing.T, s *session) {
	create, destroy := s.module("new_cache"), s.module("delete_cache")
	dir := filepath.Dir(s.attr("foo", "objects"))
	for round := range 3 {
		s.c.Want(unix.ENOENT, Op{Do: "stat", Path: dir})
		flags, byRCU := "no_merge", "0\n"
		if round == 1 {
			flags, byRCU = "typesafe_by_rcu", "1\n"
		}
		echo(s.c, create, "foo 100 flags="+flags)
		if got := cat(s.c, s.attr("foo", "destroy_by_rcu")); got != byRCU {
			t.Errorf("round %d: destroy_by_rcu = %q; want %q", round, got, byRCU)
		}
		if got := cat(s.c, s.attr("foo", "object_size")); got != "100\n" {
			t.Errorf("round %d: object_size = %q; want 100", round, got)
		}
		echoWant(s.c, unix.EEXIST, create, "foo 100 flags=no_merge")
		echoWant(s.c, unix.EEXIST, create, "foo 8")

		open := func(name string, flags int) int {
			t.Helper()
			return s.c.OK(Op{Do: "open", Path: s.attr("foo", name), Flags: flags}).FD
		}
		unread, read, both := open("objects", unix.O_RDONLY), open("slabs", unix.O_RDONLY), open("cpu_partial", unix.O_RDWR)
		s.c.OK(Op{Do: "read", FD: read, Size: 1})
		s.c.OK(Op{Do: "pwrite", FD: both, Data: []byte("7")})
		handle := s.c.OK(Op{Do: "open", Path: dir, Flags: unix.O_DIRECTORY}).FD
		echo(s.c, destroy, "foo")
		s.c.Want(unix.ENOENT, Op{Do: "stat", Path: dir})
		s.c.Want(unix.ENOENT, Op{Do: "open", Path: s.attr("foo", "objects")})
		s.c.Want(unix.ENOENT, Op{Do: "openat", FD: handle, Path: "objects"})
		s.c.Want(unix.ENODEV, Op{Do: "read", FD: unread, Size: 100})
		s.c.Want(unix.ENODEV, Op{Do: "pread", FD: read, Size: 100, Off: 0})
		s.c.Want(unix.ENODEV, Op{Do: "pread", FD: both, Size: 100, Off: 0})
		s.c.Want(unix.ENODEV, Op{Do: "pwrite", FD: both, Data: []byte("8")})
		echoWant(s.c, unix.ENOENT, destroy, "foo")
		if round == 2 { // a new cache of that name is another one
			echo(s.c, create, "foo 100")
			s.c.Want(unix.ENODEV, Op{Do: "pread", FD: both, Size: 100, Off: 0})
			if got := cat(s.c, s.attr("foo", "cpu_partial")); got != "120\n" {
				t.Errorf("cpu_partial of a new cache = %q; want 120", got)
			}
			echo(s.c, destroy, "foo")
		}
		for _, fd := range []int{unread, read, both, handle} {
			s.c.OK(Op{Do: "close", FD: fd})
		}
	}
	for _, line := range []string{
		"", "foo", "foo x", "foo 0", "foo -1", "foo 4194305", ".foo 8", "f/oo 8", strings.Repeat("f", 61) + " 8",
		"foo 8 align=3", "foo 8 flags=nonsense", "foo 8 size=9",
	} {
		echoWant(s.c, unix.EINVAL, create, line)
	}
	for name, errno := range map[string]unix.Errno{"nosuch": unix.ENOENT, "kmalloc-64": unix.EPERM, "kmalloc-8k": unix.EPERM} {
		echoWant(s.c, errno, destroy, name)
	}
	if got := s.number(t, s.attr("kmalloc-64", "objects")); got == 0 {
		t.Error("kmalloc-64 has no objects after it could not be destroyed")
	}
	echo(s.c, destroy, "req") // from --cache: the shell may destroy it
	s.c.Want(unix.ENOENT, Op{Do: "stat", Path: filepath.Dir(s.attr("req", "objects"))})
}

func seenLiveObjects(t *testing.T, s *session) {
	hold, objects := s.module("load/hold"), s.attr("load-small", "objects")
	s.rest(t)
	base := s.number(t, objects)
	if base == 0 {
		t.Fatal("the load keeps no objects of load-small")
	}
	for _, n := range []int{1, 1000, 10, 0} {
		echo(s.c, hold, strconv.Itoa(n))
		if got := s.number(t, objects) - base; got != n || s.number(t, hold) != n {
			t.Errorf("hold %d: %d more objects, reads %d", n, got, s.number(t, hold))
		}
	}
	echo(s.c, hold, "10")
	echoWant(s.c, unix.EINVAL, hold, "many")
	before := s.figures("load-small")
	echoWant(s.c, unix.EBUSY, s.module("delete_cache"), "load-small")
	// Free objects may have moved to their slabs. Nothing is lost, and it works.
	if got := s.number(t, objects); got != base+10 {
		t.Errorf("after a refused destroy: %d objects; want %d; before:\n%safter:\n%s", got, base+10, before, s.figures("load-small"))
	}
	echo(s.c, hold, "500")
	if got := s.number(t, objects); got != base+500 {
		t.Errorf("after a refused destroy, hold 500: %d objects; want %d", got, base+500)
	}
	echo(s.c, hold, "0")
	if got := s.number(t, objects); got != base {
		t.Errorf("after all: %d objects; want %d", got, base)
	}
	echo(s.c, s.module("load/running"), "1")
	echoWant(s.c, unix.EBUSY, s.module("delete_cache"), "load-small") // at work, too
	eventually(t, "load-small works on", func() bool { return s.number(t, objects) != base })
}

// figures returns all files of a cache.
func (s *session) figures(cache string) string {
	var b strings.Builder
	for _, e := range s.c.OK(Op{Do: "readdir", Path: s.path("sys/kernel/slab", cache)}).Entries {
		if e.Type == unix.DT_REG {
			fmt.Fprintf(&b, "%s: %q\n", e.Name, cat(s.c, s.attr(cache, e.Name)))
		}
	}
	return b.String()
}

func seenPermissions(t *testing.T, s *session) {
	before := s.figures("kmalloc-64")
	entries := s.c.OK(Op{Do: "readdir", Path: s.path("sys/kernel/slab/kmalloc-64")}).Entries
	strangerReads := false
	for _, e := range entries {
		if e.Type != unix.DT_REG {
			continue
		}
		path := s.attr("kmalloc-64", e.Name)
		s.stranger.Want(unix.EACCES, Op{Do: "open", Path: path, Flags: unix.O_RDONLY})
		s.stranger.Want(unix.EACCES, Op{Do: "open", Path: path, Flags: unix.O_WRONLY})
		switch mode := s.c.OK(Op{Do: "stat", Path: path}).Stat.Mode & 0o7777; mode {
		case 0o400:
			s.c.Want(unix.EACCES, Op{Do: "open", Path: path, Flags: unix.O_WRONLY})
			s.c.Want(unix.EACCES, Op{Do: "open", Path: path, Flags: unix.O_RDWR})
			echoWant(s.c, unix.EACCES, path, "1")
			strangerReads = true
		case 0o600:
		default:
			t.Errorf("%s has mode %#o; want 0400 or 0600", path, mode)
		}
	}
	if !strangerReads {
		t.Error("no file has mode 0400")
	}
	for _, name := range []string{"new_cache", "delete_cache"} {
		s.c.Want(unix.EACCES, Op{Do: "open", Path: s.module(name), Flags: unix.O_RDONLY})
		s.stranger.Want(unix.EACCES, Op{Do: "open", Path: s.module(name), Flags: unix.O_WRONLY})
	}
	limit := s.module("parameters/memory_limit")
	s.stranger.Want(unix.EACCES, Op{Do: "open", Path: limit, Flags: unix.O_WRONLY})
	if s.user.uid == 0 { // mounts of users are theirs alone
		s.stranger.OK(Op{Do: "open", Path: limit, Flags: unix.O_RDONLY})
	} else {
		s.stranger.Want(unix.EACCES, Op{Do: "open", Path: limit, Flags: unix.O_RDONLY})
		root.client(t).Want(unix.EACCES, Op{Do: "stat", Path: limit})
	}

	dir := s.path("sys/kernel/slab")
	s.c.Want(unix.EPERM, Op{Do: "mkdir", Path: filepath.Join(dir, "foo")})
	s.c.Want(unix.EPERM, Op{Do: "rmdir", Path: filepath.Join(dir, "kmalloc-64")})
	s.c.Want(unix.EPERM, Op{Do: "unlink", Path: s.attr("kmalloc-64", "objects")})
	s.c.Want(unix.EPERM, Op{Do: "rename", Path: filepath.Join(dir, "kmalloc-64"), Path2: filepath.Join(dir, "foo")})
	echoWant(s.c, unix.EACCES, s.attr("kmalloc-64", "foo"), "1")

	names := func(figures string) (names []string) {
		for line := range strings.Lines(figures) {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
		return names
	}
	if after := s.figures("kmalloc-64"); !slices.Equal(names(after), names(before)) {
		t.Errorf("files of kmalloc-64 after all this:\n%swere:\n%s", after, before)
	}
}

func seenMemoryLimit(t *testing.T, s *session) {
	limit, used := s.module("parameters/memory_limit"), s.module("parameters/memory_used")
	if got := s.number(t, limit); got != 0 {
		t.Errorf("memory_limit = %d at first; want 0, which is none", got)
	}
	for text, errno := range map[string]unix.Errno{"x": unix.EINVAL, "-1": unix.EINVAL, "9223372036854775808": unix.ERANGE} {
		echoWant(s.c, errno, limit, text)
	}
	most := s.number(t, used) + 1<<20
	echo(s.c, limit, strconv.Itoa(most))
	if got := s.number(t, limit); got != most {
		t.Errorf("memory_limit = %d; want %d", got, most)
	}
	echoWant(s.c, unix.ENOMEM, s.module("load/hold"), "100000") // ten times as much
	if got := s.number(t, used); got > most {
		t.Errorf("memory_used = %d; the limit is %d", got, most)
	}
	if got := s.number(t, s.module("load/hold")); got != 0 {
		t.Errorf("hold = %d after it failed; want 0 as before", got)
	}
	echo(s.c, limit, "0")
	echo(s.c, s.module("load/hold"), "100000")
	if got := s.number(t, used); got <= most {
		t.Errorf("memory_used = %d with 100000 objects more; want more than %d", got, most)
	}
	echo(s.c, s.module("load/hold"), "0")
}

// seenTree walks through all there is: each file has an entry in docs/abi, and
// what has a read bit can be read.
func seenTree(t *testing.T, s *session) {
	documented := documentedFiles(t)
	var walk func(dir string) int
	walk = func(dir string) (files int) {
		for _, e := range s.c.OK(Op{Do: "readdir", Path: s.path(dir)}).Entries {
			name := filepath.Join(dir, e.Name)
			switch {
			case e.Name == "." || e.Name == "..":
			case e.Type == unix.DT_DIR:
				files += walk(name)
			case e.Type == unix.DT_REG:
				files++
				abi := regexp.MustCompile(`^sys/kernel/slab/[^/]+`).ReplaceAllString(name, "sys/kernel/slab/CACHE")
				abi = regexp.MustCompile(`/cpu\d+/`).ReplaceAllString(abi, "/cpuN/")
				if !slices.Contains(documented, abi) {
					t.Errorf("%s has no entry in docs/abi", abi)
				}
				if s.c.OK(Op{Do: "stat", Path: s.path(name)}).Stat.Mode&0o400 != 0 {
					cat(s.c, s.path(name))
				}
			default:
				t.Errorf("%s has type %d; want a directory or a file", name, e.Type)
			}
		}
		return files
	}
	if n := walk(""); n < 100 {
		t.Errorf("%d files; want hundreds", n)
	}
	want := regexp.MustCompile(`(?m)^kmalloc-64 +\d+ +\d+ +64 +64 +1 : tunables +0 +0 +0 : slabdata +\d+ +\d+ +0$`)
	if got := cat(s.c, s.path("proc/slabinfo")); !strings.HasPrefix(got, "slabinfo - version: 2.1\n") || !want.MatchString(got) {
		t.Errorf("proc/slabinfo:\n%s", got)
	}
	if got := cat(s.c, s.module("version")); !regexp.MustCompile(`^\d+\.\d+\.\d+\n$`).MatchString(got) {
		t.Errorf("version = %q", got)
	}
}

// seenLocks looks at what the checker of lock order saw of all the above.
func seenLocks(t *testing.T, s *session) {
	for file, want := range map[string]string{
		"lockdep":        `(?m)^0x[0-9a-f]+ OPS: *\d+ FD: *\d+ BD: *\d+ \+\+\+\+: kn->active#cpu_partial\n -> \[0x`,
		"lockdep_chains": `^all lock chains:\nirq_context: 0\n\[0x`,
		"lockdep_stats":  `\n violations: +0\n`,
		"lockdep_dot":    `\n\t"slab_mutex" -> "flush_lock";\n`,
		"lockdep_report": `^$`,
	} {
		if got := cat(s.c, s.path("proc/"+file)); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("proc/%s has no %q:\n%s", file, want, got)
		}
	}
}

func documentedFiles(t *testing.T) (files []string) {
	t.Helper()
	entry := regexp.MustCompile("(?m)^(?:### |\\| )`([^`]+)`")
	err := filepath.WalkDir("../docs/abi", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range entry.FindAllSubmatch(text, -1) {
			files = append(files, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// asPlainUser reports whether the caller is to go on: where a user could not
// open /dev/fuse it has run the test again, in a mount namespace in which one can.
func asPlainUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip("needs fusermount3 (package fuse3)")
	}
	fi, err := os.Stat("/dev/fuse")
	switch {
	case err != nil:
		t.Fatal(err)
	case fi.Mode()&0o006 == 0o006:
		return true
	case os.Getenv(insideEnv) != "":
		openDevice(t, int(fi.Sys().(*syscall.Stat_t).Rdev))
		return true
	}
	inside(t)
	return false
}

// inside runs a test once more, in a copy of the mount namespace without the
// mounts of other tests.
func inside(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("in a mount namespace of its own: %v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Errorf("in a mount namespace of its own it did not run:\n%s", out)
	}
}

// openDevice puts a device over /dev/fuse that all users may open. The process
// is in a mount namespace of its own.
func openDevice(t *testing.T, device int) {
	t.Helper()
	node := filepath.Join(t.TempDir(), "fuse")
	if err := unix.Mknod(node, unix.S_IFCHR, device); err != nil {
		t.Skipf("needs mknod of a device: %v", err)
	}
	err := errors.Join(os.Chmod(node, 0o666), unix.Mount(node, "/dev/fuse", "", unix.MS_BIND, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/dev/fuse", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
