package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
)

// The same operations on the caches of the running kernel and on those of a
// mount. Of the kernel's files the tests only read, and try what must fail.

const kernelSlab = "/sys/kernel/slab"

// A side is one of the two: the kernel, or a mount.
type side struct {
	name        string
	c, stranger *testclient.Client // of root, and of a user without rights
	slab        string             // the directory of caches
	slabinfo    string             // /proc/slabinfo
	caches      []string           // its directories
	cache       string             // one of them
	link        string             // path of an alias, "" if there is none
}

func newSide(t *testing.T, name, slab, cache string) *side {
	t.Helper()
	s := &side{name: name, slab: slab, cache: cache, c: root.client(t), stranger: user{uid: testclient.Nobody}.client(t)}
	for _, e := range s.c.OK(Op{Do: "readdir", Path: slab}).Entries[2:] {
		switch e.Type {
		case unix.DT_DIR:
			s.caches = append(s.caches, e.Name)
		case unix.DT_LNK:
			s.link = filepath.Join(slab, e.Name)
		default:
			t.Errorf("%s/%s has type %d; want a directory or a link", slab, e.Name, e.Type)
		}
	}
	if !slices.Contains(s.caches, cache) {
		s.cache = s.caches[0]
	}
	return s
}

// attr returns the path of a file of the cache, dir that of the cache.
func (s *side) attr(name string) string { return filepath.Join(s.slab, s.cache, name) }
func (s *side) dir() string             { return filepath.Join(s.slab, s.cache) }

// onBothSides runs a test on a mount and on the kernel's caches.
func onBothSides(t *testing.T, test func(t *testing.T, s *side)) {
	t.Helper()
	needRoot(t)
	t.Parallel()
	t.Run("mount", func(t *testing.T) { test(t, mountSide(t)) })
	t.Run("kernel", func(t *testing.T) { test(t, kernelSide(t)) })
}

func mountSide(t *testing.T) *side {
	t.Helper()
	s := root.mount(t, root.newDir(t, true), "--load",
		"--cache", "diff:200:no_merge", "--cache", "lines:100:no_merge,hwcache_align", "--cache", "acc:24:no_merge,reclaim_account")
	side := newSide(t, "mount", s.path("sys/kernel/slab"), "diff")
	side.slabinfo = s.path("proc/slabinfo")
	return side
}

func kernelSide(t *testing.T) *side {
	t.Helper()
	if _, err := os.ReadDir(kernelSlab); err != nil {
		t.Skipf("needs a kernel with SLUB and sysfs: %v", err)
	}
	side := newSide(t, "kernel", kernelSlab, "task_struct")
	side.slabinfo = "/proc/slabinfo"
	return side
}

// Files that caches of Linux 6.18 have and those of slabfs have not. An entry
// that is not true any more fails TestKernelFiles.
var notHere = map[string]string{}

// Files whose modes differ on purpose, and why. An entry that is not true any more
// fails TestKernelFiles.
var otherMode = map[string]string{
	"sheaf_capacity": "it can be changed while the cache works",
}

// Files that a kernel may have or lack, by version and configuration.
var sometimes = append([]string{
	"sheaf_capacity", "usersize", "cache_dma", "remote_node_defrag_ratio", // 6.18, HARDENED_USERCOPY, ZONE_DMA, NUMA
	"sanity_checks", "trace", "red_zone", "poison", "store_user", "validate", "slabs", "objects", "total_objects", // SLUB_DEBUG
	"failslab", "skip_kfence",
}, statistics...)

// statistics are the files of SLUB_STATS, of 6.18 and before.
var statistics = strings.Fields(`
	alloc_fastpath alloc_slowpath free_fastpath free_slowpath free_frozen free_add_partial free_remove_partial
	alloc_from_partial alloc_slab alloc_refill alloc_node_mismatch free_slab cpuslab_flush deactivate_full deactivate_empty
	deactivate_to_head deactivate_to_tail deactivate_remote_frees deactivate_bypass order_fallback cmpxchg_double_fail
	cmpxchg_double_cpu_fail cpu_partial_alloc cpu_partial_free cpu_partial_node cpu_partial_drain
	alloc_cpu_sheaf free_cpu_sheaf free_rcu_sheaf free_rcu_sheaf_fail sheaf_flush sheaf_refill sheaf_alloc sheaf_free
	barn_get barn_get_fail barn_put barn_put_fail sheaf_prefill_fast sheaf_prefill_slow sheaf_prefill_oversize
	sheaf_return_fast sheaf_return_slow`)

// The files of a cache have the names and the modes that the kernel's have.
func TestKernelFiles(t *testing.T) {
	needRoot(t)
	t.Parallel()
	files := func(s *side, cache string) map[string]uint32 {
		modes := make(map[string]uint32)
		for _, e := range s.c.OK(Op{Do: "readdir", Path: filepath.Join(s.slab, cache)}).Entries[2:] {
			if e.Type != unix.DT_REG {
				t.Errorf("%s: %s/%s has type %d; want a file", s.name, cache, e.Name, e.Type)
			}
			modes[e.Name] = s.c.OK(Op{Do: "lstat", Path: filepath.Join(s.slab, cache, e.Name)}).Stat.Mode
		}
		return modes
	}
	mount := mountSide(t)
	ours := files(mount, mount.cache)
	for _, cache := range mount.caches {
		if got := files(mount, cache); !maps.Equal(got, ours) {
			t.Errorf("files of %s: %v; want those of %s, %v", cache, got, mount.cache, ours)
		}
	}
	for name, why := range notHere {
		if _, ok := ours[name]; ok {
			t.Errorf("%s is there: take it out of notHere, where it says: %s", name, why)
		}
	}
	t.Run("kernel", func(t *testing.T) {
		kernel := kernelSide(t)
		theirs := files(kernel, kernel.cache)
		for name, mode := range theirs {
			got, ok := ours[name]
			switch {
			case !ok && notHere[name] == "" && !slices.Contains(sometimes, name):
				t.Errorf("the kernel has %s (mode %#o)", name, mode)
			case ok && got != mode && otherMode[name] == "":
				t.Errorf("mode of %s: %#o; the kernel's is %#o", name, got, mode)
			case ok && got == mode && otherMode[name] != "":
				t.Errorf("mode of %s is the kernel's: take it out of otherMode, where it says: %s", name, otherMode[name])
			}
		}
		for name := range ours {
			if _, ok := theirs[name]; !ok && !slices.Contains(sometimes, name) {
				t.Errorf("the kernel has no %s", name)
			}
		}
	})
}

// grammar says what each file of a cache shows.
var grammar = func() map[string]*regexp.Regexp {
	const (
		number  = `(0|[1-9]\d*)\n`
		flag    = `[01]\n`
		perNode = `(0|[1-9]\d*( N\d+=[1-9]\d*)*)\n`
		nothing = ``
	)
	lines := map[string]string{
		"slab_size": number, "object_size": number, "objs_per_slab": number, "order": number, "sheaf_capacity": number,
		"min_partial": number, "cpu_partial": number, "aliases": number, "align": number, "usersize": number,
		"objects_partial": perNode, "partial": perNode, "cpu_slabs": perNode, "total_objects": perNode, "objects": perNode, "slabs": perNode,
		"hwcache_align": flag, "reclaim_account": flag, "destroy_by_rcu": flag, "cache_dma": flag, "failslab": flag, "skip_kfence": flag,
		"sanity_checks": flag, "trace": flag, "red_zone": flag, "poison": flag, "store_user": flag,
		"shrink": nothing, "validate": nothing,
		"remote_node_defrag_ratio": `(\d{1,2}|100)\n`,
		"slabs_cpu_partial":        `\d+\(\d+\)( C\d+=\d+\([1-9]\d*\))*\n`,
		"ctor":                     `(\S+\+0x0/0x[0-9a-f]+( \[\S+\])?\n)?`,
	}
	for _, name := range statistics {
		lines[name] = `\d+( C\d+=[1-9]\d*)*\n`
	}
	compiled := make(map[string]*regexp.Regexp)
	for name, line := range lines {
		compiled[name] = regexp.MustCompile("^(" + line + ")$")
	}
	return compiled
}()

var nodePart = regexp.MustCompile(` N\d+=(\d+)`)

// What files show has one grammar, here and in the kernel.
func TestKernelFormats(t *testing.T) {
	onBothSides(t, func(t *testing.T, s *side) {
		read := 0
		for _, cache := range s.caches {
			for _, e := range s.c.Do(Op{Do: "readdir", Path: filepath.Join(s.slab, cache)}).Entries {
				if e.Type != unix.DT_REG {
					continue
				}
				r := s.c.Do(Op{Do: "cat", Path: filepath.Join(s.slab, cache, e.Name)})
				if r.Errno == unix.ENOENT || r.Errno == unix.ENODEV {
					continue // it may go at any time
				}
				read++
				form := grammar[e.Name]
				if form == nil || r.Errno != 0 || !form.Match(r.Data) {
					t.Errorf("%s/%s: %q, %v; want the form %v", cache, e.Name, r.Data, r.Errno, form)
					continue
				}
				total, parts := 0, nodePart.FindAllStringSubmatch(string(r.Data), -1)
				for _, part := range parts {
					n, err := strconv.Atoi(part[1])
					if err != nil {
						t.Fatal(err)
					}
					total += n
				}
				if first, _, _ := strings.Cut(string(r.Data), " "); len(parts) > 0 && first != strconv.Itoa(total) {
					t.Errorf("%s/%s: %q: the nodes have %d", cache, e.Name, r.Data, total)
				}
			}
		}
		if read < 200 {
			t.Errorf("%d files; want hundreds", read)
		}
	})
}

func TestKernelStat(t *testing.T) {
	onBothSides(t, func(t *testing.T, s *side) {
		check := func(path string, mode uint32, size int64, nlink uint64) {
			t.Helper()
			st := s.c.OK(Op{Do: "lstat", Path: path}).Stat
			if st.Mode != mode || st.Size != size || st.Nlink != nlink || st.Blocks != 0 || st.Blksize != 4096 || st.UID != 0 || st.GID != 0 {
				t.Errorf("lstat %s = %+v; want mode %#o, size %d, nlink %d, no blocks, of 4096, of root", path, *st, mode, size, nlink)
			}
		}
		check(s.dir(), unix.S_IFDIR|0o755, 0, 2)
		check(s.attr("slab_size"), unix.S_IFREG|0o400, 4096, 1)
		check(s.attr("cpu_partial"), unix.S_IFREG|0o600, 4096, 1)
		if s.link != "" {
			check(s.link, unix.S_IFLNK|0o777, 0, 1)
		}
		eventually(t, "links of the directory: two, and one a directory", func() bool {
			dirs := uint64(2)
			for _, e := range s.c.OK(Op{Do: "readdir", Path: s.slab}).Entries[2:] {
				if e.Type == unix.DT_DIR {
					dirs++
				}
			}
			return s.c.OK(Op{Do: "lstat", Path: s.slab}).Stat.Nlink == dirs
		})

		// Reading changes no time; the number stays, and is the directory entry's.
		fd := s.c.OK(Op{Do: "open", Path: s.attr("slab_size")}).FD
		first := *s.c.OK(Op{Do: "fstat", FD: fd}).Stat
		s.c.OK(Op{Do: "read", FD: fd, Size: 100})
		if again := *s.c.OK(Op{Do: "fstat", FD: fd}).Stat; again != first {
			t.Errorf("fstat after a read = %+v; want %+v", again, first)
		}
		if first.Atime != first.Mtime || first.Mtime != first.Ctime {
			t.Errorf("times = %v, %v, %v; want one", first.Atime, first.Mtime, first.Ctime)
		}
		for _, e := range s.c.OK(Op{Do: "readdir", Path: s.dir()}).Entries {
			path := s.attr(e.Name)
			if e.Name == ".." {
				path = s.slab
			}
			if st := s.c.OK(Op{Do: "lstat", Path: path}).Stat; st.Ino != e.Ino || st.Mode>>12 != uint32(e.Type) {
				t.Errorf("%s: entry %+v; stat says number %d, mode %#o", path, e, st.Ino, st.Mode)
			}
		}
		st := s.c.OK(Op{Do: "statfs", Path: s.dir()}).Stat
		if st.Bsize != 4096 || st.Namelen != 255 || st.FSFlag&unix.ST_RELATIME == 0 {
			t.Errorf("statfs = %+v; want bsize 4096, namelen 255, relatime", *st)
		}
	})
}

func TestKernelReaddir(t *testing.T) {
	onBothSides(t, func(t *testing.T, s *side) {
		all := s.c.OK(Op{Do: "readdir", Path: s.dir()}).Entries
		if all[0].Name != "." || all[1].Name != ".." || all[0].Off != 1 || len(all) < 20 {
			t.Fatalf("entries %+v; want . with offset 1, .., then files", all)
		}
		fd := s.c.OK(Op{Do: "open", Path: s.dir()}).FD
		next := func() (names []string) {
			for {
				more := s.c.OK(Op{Do: "getdents", FD: fd, Size: 100}).Entries // three at most
				if len(more) == 0 {
					return names
				}
				for _, e := range more {
					names = append(names, e.Name)
				}
			}
		}
		want := make([]string, len(all))
		for i, e := range all {
			want[i] = e.Name
		}
		if got := next(); !slices.Equal(got, want) {
			t.Errorf("in small pieces: %q; want %q", got, want)
		}
		for i, e := range all {
			s.c.OK(Op{Do: "lseek", FD: fd, Off: int64(e.Off)})
			if got := next(); !slices.Equal(got, want[i+1:]) {
				t.Errorf("behind %s: %q; want %q", e.Name, got, want[i+1:])
			}
			if i > 0 && e.Off <= all[i-1].Off {
				t.Errorf("offset %d behind %s, after %d", e.Off, e.Name, all[i-1].Off)
			}
		}
		if r := s.c.OK(Op{Do: "lseek", FD: fd, Flags: unix.SEEK_END}); r.N != 0 {
			t.Errorf("seek to the end = %d; want 0", r.N)
		}
		s.c.OK(Op{Do: "lseek", FD: fd, Off: 1<<31 - 1})
		s.c.Want(unix.EISDIR, Op{Do: "read", FD: fd, Size: 1})
		s.c.Want(unix.EINVAL, Op{Do: "fsync", FD: fd})
		s.c.Want(unix.EINVAL, Op{Do: "getdents", FD: s.reopen(fd), Size: 10})
	})
}

// reopen opens the cache's directory in place of fd.
func (s *side) reopen(fd int) int {
	s.c.OK(Op{Do: "close", FD: fd})
	return s.c.OK(Op{Do: "open", Path: s.dir()}).FD
}

func TestKernelReading(t *testing.T) {
	onBothSides(t, func(t *testing.T, s *side) {
		text := cat(s.c, s.attr("object_size")) // it does not change
		fd := s.c.OK(Op{Do: "open", Path: s.attr("object_size"), Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME}).FD
		read := func(op Op, want string) {
			t.Helper()
			op.FD = fd
			if got := string(s.c.OK(op).Data); got != want {
				t.Errorf("%+v = %q; want %q", op, got, want)
			}
		}
		seek := func(whence int, off, want int64) {
			t.Helper()
			if got := s.c.OK(Op{Do: "lseek", FD: fd, Flags: whence, Off: off}).N; got != want {
				t.Errorf("lseek(%d, %d) = %d; want %d", off, whence, got, want)
			}
		}
		read(Op{Do: "read", Size: 0}, "")
		for i := range text {
			read(Op{Do: "read", Size: 1}, text[i:i+1])
		}
		read(Op{Do: "read", Size: 1}, "")
		read(Op{Do: "read", Size: 100}, "")
		read(Op{Do: "pread", Size: 100, Off: 1}, text[1:])
		read(Op{Do: "pread", Size: 100, Off: int64(len(text))}, "")
		read(Op{Do: "pread", Size: 100, Off: 1 << 40}, "")
		s.c.Want(unix.EINVAL, Op{Do: "pread", FD: fd, Size: 100, Off: -1})
		seek(unix.SEEK_CUR, 0, int64(len(text))) // pread moves nothing
		read(Op{Do: "pread", Size: 100}, text)
		if got := s.c.OK(Op{Do: "sendfile", FD: fd, Size: 100}).N; got != int64(len(text)) {
			t.Errorf("sendfile = %d; want %d", got, len(text))
		}
		s.c.OK(Op{Do: "close", FD: fd}) // FUSE keeps the length for a size otherwise, until it is asked for
		fd = s.c.OK(Op{Do: "open", Path: s.attr("object_size"), Flags: unix.O_RDONLY}).FD
		s.c.OK(Op{Do: "stat", Path: s.attr("object_size")})
		seek(unix.SEEK_SET, 2, 2)
		read(Op{Do: "read", Size: 100}, text[2:])
		seek(unix.SEEK_SET, 0, 0)
		read(Op{Do: "read", Size: 100}, text)
		seek(unix.SEEK_END, 0, 4096)
		read(Op{Do: "read", Size: 100}, "")
		seek(unix.SEEK_END, 5, 4101)
		seek(unix.SEEK_DATA, 0, 0)
		seek(unix.SEEK_HOLE, 0, 4096)
		for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
			s.c.Want(unix.ENXIO, Op{Do: "lseek", FD: fd, Flags: whence, Off: 4096})
		}
		s.c.Want(unix.EINVAL, Op{Do: "lseek", FD: fd, Flags: unix.SEEK_SET, Off: -1})
		s.c.Want(unix.EINVAL, Op{Do: "ftruncate", FD: fd})
		s.c.Want(unix.ENODEV, Op{Do: "mmapshared", FD: fd, Size: 4096})
		s.c.OK(Op{Do: "fsync", FD: fd})
		s.c.Want(unix.EBADF, Op{Do: "write", FD: fd, Data: []byte("1")})
		for _, name := range []string{"shrink", "validate"} {
			if r := s.c.Do(Op{Do: "cat", Path: s.attr(name)}); r.Errno != unix.ENOENT && (r.Errno != 0 || r.N != 0) {
				t.Errorf("%s reads %q, %v; want nothing", name, r.Data, r.Errno)
			}
		}
	})
}

// Every way to be refused. None of it may be able to succeed on the kernel's side.
func TestKernelRefusals(t *testing.T) {
	onBothSides(t, func(t *testing.T, s *side) {
		ro, rw, dir := s.attr("slab_size"), s.attr("cpu_partial"), s.dir()
		fresh, inside, elsewhere := filepath.Join(s.slab, "slabfs-test"), s.attr("slabfs-test"), filepath.Join(tmp, "x")
		before := s.c.OK(Op{Do: "readdir", Path: dir}).Entries
		type refusal struct {
			want unix.Errno
			op   Op
		}
		refusals := []refusal{
			{unix.EACCES, Op{Do: "open", Path: ro, Flags: unix.O_WRONLY}},
			{unix.EACCES, Op{Do: "open", Path: ro, Flags: unix.O_RDWR}},
			{unix.EACCES, Op{Do: "open", Path: ro, Flags: unix.O_WRONLY | unix.O_TRUNC}},
			{unix.EACCES, Op{Do: "open", Path: ro, Flags: unix.O_WRONLY | unix.O_APPEND}},
			{unix.EACCES, Op{Do: "open", Path: ro, Flags: unix.O_WRONLY | unix.O_SYNC}},
			{unix.EACCES, Op{Do: "open", Path: ro, Flags: unix.O_WRONLY | unix.O_CREAT}},
			{unix.EINVAL, Op{Do: "open", Path: ro, Flags: unix.O_DIRECT}},
			{unix.EINVAL, Op{Do: "open", Path: rw, Flags: unix.O_DIRECT}},
			{unix.EEXIST, Op{Do: "open", Path: ro, Flags: unix.O_CREAT | unix.O_EXCL}},
			{unix.EEXIST, Op{Do: "open", Path: rw, Flags: unix.O_CREAT | unix.O_EXCL}},
			{unix.ENOTDIR, Op{Do: "open", Path: ro, Flags: unix.O_DIRECTORY}},
			{unix.ENOTDIR, Op{Do: "open", Path: ro + "/"}},
			{unix.ENOTDIR, Op{Do: "open", Path: ro + "/x"}},
			{unix.ENOTDIR, Op{Do: "chdir", Path: ro}},
			{unix.EISDIR, Op{Do: "open", Path: dir, Flags: unix.O_WRONLY}},
			{unix.EISDIR, Op{Do: "open", Path: dir, Flags: unix.O_RDWR}},
			{unix.EISDIR, Op{Do: "open", Path: dir, Flags: unix.O_CREAT}},
			{unix.EOPNOTSUPP, Op{Do: "open", Path: dir, Flags: unix.O_TMPFILE | unix.O_RDWR, Mode: 0o600}},
			{unix.EACCES, Op{Do: "open", Path: fresh, Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}},
			{unix.EACCES, Op{Do: "open", Path: inside, Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}},
			{unix.EACCES, Op{Do: "open", Path: inside, Flags: unix.O_CREAT | unix.O_EXCL | unix.O_RDWR, Mode: 0o600}},
			{unix.ENOENT, Op{Do: "open", Path: inside}},
			{unix.ENOENT, Op{Do: "lstat", Path: fresh}},
			{unix.EPERM, Op{Do: "unlink", Path: ro}},
			{unix.EISDIR, Op{Do: "unlink", Path: dir}},
			{unix.ENOENT, Op{Do: "unlink", Path: inside}},
			{unix.EPERM, Op{Do: "rmdir", Path: dir}},
			{unix.ENOTDIR, Op{Do: "rmdir", Path: ro}},
			{unix.ENOENT, Op{Do: "rmdir", Path: fresh}},
			{unix.EPERM, Op{Do: "mkdir", Path: fresh}},
			{unix.EPERM, Op{Do: "mkdir", Path: inside}},
			{unix.EEXIST, Op{Do: "mkdir", Path: dir}},
			{unix.EEXIST, Op{Do: "mkdir", Path: ro}},
			{unix.EPERM, Op{Do: "rename", Path: ro, Path2: inside}},
			{unix.EPERM, Op{Do: "rename", Path: ro, Path2: rw}},
			{unix.EPERM, Op{Do: "rename", Path: dir, Path2: fresh}},
			{unix.ENOENT, Op{Do: "rename", Path: inside, Path2: fresh}},
			{unix.EXDEV, Op{Do: "rename", Path: ro, Path2: elsewhere}},
			{unix.EXDEV, Op{Do: "rename", Path: dir, Path2: elsewhere}},
			{unix.EPERM, Op{Do: "link", Path: ro, Path2: inside}},
			{unix.EXDEV, Op{Do: "link", Path: ro, Path2: elsewhere}},
			{unix.EPERM, Op{Do: "link", Path: dir, Path2: fresh}},
			{unix.EPERM, Op{Do: "symlink", Path: fresh, Path2: "x"}},
			{unix.EPERM, Op{Do: "symlink", Path: inside, Path2: "x"}},
			{unix.EEXIST, Op{Do: "symlink", Path: dir, Path2: "x"}},
			{unix.EEXIST, Op{Do: "symlink", Path: ro, Path2: "x"}},
			{unix.EACCES, Op{Do: "mknod", Path: fresh, Mode: unix.S_IFREG | 0o600}},
			{unix.EPERM, Op{Do: "mknod", Path: fresh, Mode: unix.S_IFIFO | 0o600}},
			{unix.EEXIST, Op{Do: "mknod", Path: ro, Mode: unix.S_IFREG | 0o600}},
			{unix.EISDIR, Op{Do: "truncate", Path: dir}},
			{unix.EINVAL, Op{Do: "readlink", Path: ro}},
			{unix.EINVAL, Op{Do: "readlink", Path: dir}},
			{unix.EOPNOTSUPP, Op{Do: "setxattr", Path: ro, Path2: "user.a", Data: []byte("b")}},
			{unix.EOPNOTSUPP, Op{Do: "setxattr", Path: dir, Path2: "user.a", Data: []byte("b")}},
			{unix.EOPNOTSUPP, Op{Do: "setxattr", Path: ro, Path2: "nonsense", Data: []byte("b")}},
		}
		if s.link != "" {
			refusals = append(refusals,
				refusal{unix.ELOOP, Op{Do: "open", Path: s.link, Flags: unix.O_NOFOLLOW}},
				refusal{unix.EPERM, Op{Do: "unlink", Path: s.link}},
				refusal{unix.ENOTDIR, Op{Do: "rmdir", Path: s.link}},
				refusal{unix.EEXIST, Op{Do: "mkdir", Path: s.link}},
				refusal{unix.EPERM, Op{Do: "rename", Path: s.link, Path2: fresh}},
			)
		}
		for _, r := range refusals {
			s.c.Want(r.want, r.op)
		}
		for _, r := range []refusal{
			{unix.EACCES, Op{Do: "open", Path: ro}},
			{unix.EACCES, Op{Do: "open", Path: rw}},
			{unix.EACCES, Op{Do: "open", Path: rw, Flags: unix.O_WRONLY}},
			{unix.EACCES, Op{Do: "access", Path: ro, Mode: unix.R_OK}},
			{unix.EACCES, Op{Do: "open", Path: fresh, Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}},
			{unix.EPERM, Op{Do: "chmod", Path: ro, Mode: 0o777}},
			{unix.EPERM, Op{Do: "chmod", Path: dir, Mode: 0o777}},
			{unix.EPERM, Op{Do: "chown", Path: ro, UID: testclient.Nobody, GID: testclient.Nobody}},
			{unix.EPERM, Op{Do: "utimes", Path: ro, Off: 1}},
			{unix.EACCES, Op{Do: "truncate", Path: rw}},
			{unix.EACCES, Op{Do: "unlink", Path: ro}},
			{unix.EACCES, Op{Do: "rmdir", Path: dir}},
			{unix.EACCES, Op{Do: "mkdir", Path: fresh}},
			{unix.EACCES, Op{Do: "rename", Path: dir, Path2: fresh}},
			{unix.EACCES, Op{Do: "symlink", Path: fresh, Path2: "x"}},
			{unix.EACCES, Op{Do: "mknod", Path: fresh, Mode: unix.S_IFIFO | 0o600}},
			{unix.EPERM, Op{Do: "setxattr", Path: ro, Path2: "trusted.a", Data: []byte("b")}},
		} {
			s.stranger.Want(r.want, r.op)
		}
		s.stranger.OK(Op{Do: "lstat", Path: ro})
		s.stranger.OK(Op{Do: "readdir", Path: dir})
		s.c.OK(Op{Do: "access", Path: ro, Mode: unix.W_OK}) // says so, and yet it cannot be opened for writing
		for range 2 {
			s.c.OK(Op{Do: "close", FD: s.c.OK(Op{Do: "open", Path: ro, Flags: unix.O_RDONLY | unix.O_CREAT}).FD})
		}
		if after := s.c.OK(Op{Do: "readdir", Path: dir}).Entries; !slices.Equal(after, before) {
			t.Errorf("after all this the cache has %v; want %v", after, before)
		}
	})
}

// What FUSE cannot do as sysfs does; docs/abi/slab.md says why. An entry that is
// not true any more fails.
func TestKernelDifferences(t *testing.T) {
	type outcome struct {
		errno unix.Errno
		n     int64
	}
	onBothSides(t, func(t *testing.T, s *side) {
		fd := s.c.OK(Op{Do: "open", Path: s.attr("slab_size")}).FD
		dir := s.c.OK(Op{Do: "open", Path: s.dir()}).FD
		slabinfo := s.c.OK(Op{Do: "open", Path: s.slabinfo}).FD
		for _, d := range []struct {
			what          string
			op            Op
			kernel, mount outcome
		}{
			{
				"poll of what was not read", Op{Do: "poll", FD: fd},
				outcome{n: unix.POLLIN | unix.POLLPRI | unix.POLLOUT | unix.POLLERR}, outcome{n: unix.POLLIN | unix.POLLOUT},
			},
			{"lseek beyond 2 GiB", Op{Do: "lseek", FD: fd, Off: 1 << 31}, outcome{errno: unix.EINVAL}, outcome{n: 1 << 31}},
			{"lseek in a directory beyond 2 GiB", Op{Do: "lseek", FD: dir, Off: 1 << 40}, outcome{errno: unix.EINVAL}, outcome{n: 1 << 40}},
			{"O_DIRECT by fcntl", Op{Do: "setfl", FD: fd, Flags: unix.O_DIRECT}, outcome{errno: unix.EINVAL}, outcome{}},
			{"sendfile of slabinfo", Op{Do: "sendfile", FD: slabinfo, Size: 10}, outcome{errno: unix.EINVAL}, outcome{n: 10}},
			{"private mapping", Op{Do: "mmapprivate", FD: fd, Size: 4096}, outcome{errno: unix.ENODEV}, outcome{}},
			{"an attribute that is not there", Op{Do: "getxattr", Path: s.attr("slab_size"), Path2: "trusted.a"}, outcome{errno: unix.ENODATA}, outcome{errno: unix.EOPNOTSUPP}},
			{"one of a user", Op{Do: "getxattr", Path: s.attr("slab_size"), Path2: "user.a"}, outcome{errno: unix.ENODATA}, outcome{errno: unix.EOPNOTSUPP}},
			{"one of security", Op{Do: "getxattr", Path: s.attr("slab_size"), Path2: "security.capability"}, outcome{errno: unix.ENODATA}, outcome{errno: unix.EOPNOTSUPP}},
			{"list of attributes", Op{Do: "listxattr", Path: s.attr("slab_size")}, outcome{}, outcome{errno: unix.EOPNOTSUPP}},
			{"blocks", Op{Do: "fibmap", FD: fd}, outcome{errno: unix.EINVAL}, outcome{}},
			{"fanotify", Op{Do: "fanotify", Path: s.attr("slab_size")}, outcome{}, outcome{}},
			{"fanotify by handles", Op{Do: "fanotify", Path: s.attr("slab_size"), Flags: unix.FAN_REPORT_FID}, outcome{errno: unix.EOPNOTSUPP}, outcome{errno: unix.ENODEV}},
			{"file handles", Op{Do: "handle", Path: s.attr("slab_size")}, outcome{errno: unix.EOPNOTSUPP}, outcome{}},
			{"type of file system", Op{Do: "statfs", Path: s.dir()}, outcome{n: unix.SYSFS_MAGIC}, outcome{n: unix.FUSE_SUPER_MAGIC}},
		} {
			r := s.c.Do(d.op)
			got, want := outcome{r.Errno, r.N}, d.mount
			if r.Stat != nil && r.Errno == 0 {
				got.n = r.Stat.Type
			}
			if s.name == "kernel" {
				want = d.kernel
			}
			if got != want {
				t.Errorf("%s: %+v; want %+v", d.what, got, want)
			}
		}
	})
}

// A written string, and what each file says: the number that it reads then, or
// an errno. "" is a write that succeeds and shows nothing.
type written struct {
	text                                string
	cpuPartial, minPartial, ratio, mark string // mark: shrink
}

// Facts of Linux 6.18, tried there or from its source. No file of the kernel is written.
var writes = func() []written {
	const inval, erange = "EINVAL", "ERANGE"
	none := func(text string) written { return written{text, inval, inval, inval, inval} }
	num := func(text, n string) written { return written{text, n, n, n, inval} } // at most 100
	big := func(text, n string) written { return written{text, n, n, erange, inval} }
	ones := func(text, n string) written { return written{text, n, n, n, ""} }
	nines := strings.Repeat("9", 40)
	list := []written{
		{"120", "120", "120", erange, ""}, {"120\n", "120", "120", erange, ""}, {"+120", "120", "120", erange, inval},
		{"0120", "120", "120", erange, inval}, {"+000120\n", "120", "120", erange, inval},
		{"120\x00", "120", "120", erange, ""}, {"120\n\x00junk", "120", "120", erange, ""},
		{"101", "101", "101", erange, ""}, {"+101\n", "101", "101", erange, inval},
		ones("1", "1"), ones("1\n", "1"), ones("10", "10"), ones("1\x00", "1"), ones("100\n", "100"), ones("1\x00\x00", "1"),
		num("0", "0"), num("0\n", "0"), num("2", "2"), num("01", "1"), num("+1", "1"), num("+1\n", "1"), num("00", "0"), num("+0", "0"),
		num("7", "7"), num("99\n", "99"), num("5\x00 6", "5"), num("5\n\x00\n", "5"), num("000000000000000000000000000005", "5"),
		num(strings.Repeat("0", 4095)+"5", "5"),
		num(strings.Repeat("0", 4094)+"56789", "56"), // cut at 4096
		{strings.Repeat("0", 4093) + "120", "120", "120", erange, inval},
		big("4294967295", "4294967295"), big("2147483648", "2147483648"),
		{"4294967296", erange, "4294967296", erange, inval},
		{"99999999999", erange, "99999999999", erange, inval},
		{"99999999999\n", erange, "99999999999", erange, inval},
		{"18446744073709551615", erange, "18446744073709551615", erange, ""},
		{"18446744073709551616", erange, erange, erange, ""},
		{nines, erange, erange, erange, inval},
		{nines + "abc", erange, erange, erange, inval},
		{"18446744073709551616abc", erange, erange, erange, ""},
		{"18446744073709551616 ", erange, erange, erange, ""},
		{"18446744073709551615abc", inval, inval, inval, ""},
		{"1 1", inval, inval, inval, ""}, {"1abc", inval, inval, inval, ""}, {"1e2", inval, inval, inval, ""},
		{"1_20", inval, inval, inval, ""}, {"1\r\n", inval, inval, inval, ""}, {"1\n\n", inval, inval, inval, ""},
		{"1" + strings.Repeat("x", 4999), inval, inval, inval, ""},
		{"12.5", inval, inval, inval, ""},
	}
	for _, text := range []string{
		"\n", " ", "\x00", "\x001", "abc", "+", "++1", "+-1", "-", "-1", "-0", "--1", "\t1", " 5", " 1", "\n1", "5 ", "5 6", "5\r\n", "5\n\n", "5x", "5.0",
		"0x10", "0b1", "0o7", "true", "yes", "99999999999abc", "99999999999 ", "\n\n", "\r\n", "5\n6", "\uff11", "five", "0 ", "5\t",
	} {
		list = append(list, none(text))
	}
	return list
}()

var errnos = map[string]unix.Errno{"EINVAL": unix.EINVAL, "ERANGE": unix.ERANGE}

// What strings do to the files that take some.
func TestKernelWrites(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := mountSide(t)
	if len(writes) < 60 {
		t.Errorf("%d strings; want 60 at least", len(writes))
	}
	write := func(name, text, want string) {
		t.Helper()
		path := s.attr(name)
		if name != "shrink" {
			echo(s.c, path, "77")
		}
		r := s.c.Do(Op{Do: "echo", Path: path, Data: []byte(text)})
		length, shows := int64(min(len(text), 4096)), "77\n"
		switch {
		case errnos[want] != 0:
			length = 0
		case want != "":
			shows = want + "\n"
		}
		if name == "shrink" {
			shows = ""
		}
		if r.Errno != errnos[want] || r.N != length {
			t.Errorf("%.40q to %s: %d, %v; want %d, %v", text, name, r.N, r.Errno, length, errnos[want])
		}
		if got := cat(s.c, path); got != shows {
			t.Errorf("%.40q to %s: reads %q then; want %q", text, name, got, shows)
		}
	}
	for _, w := range writes {
		write("cpu_partial", w.text, w.cpuPartial)
		write("min_partial", w.text, w.minPartial)
		write("remote_node_defrag_ratio", w.text, w.ratio)
		write("shrink", w.text, w.mark)
		if _, ok := notHere["validate"]; !ok { // this cache has no debugging
			s.c.Want(unix.EINVAL, Op{Do: "echo", Path: s.attr("validate"), Data: []byte(w.text)})
		}
	}
	for _, name := range []string{"cpu_partial", "min_partial", "remote_node_defrag_ratio", "shrink"} {
		before := cat(s.c, s.attr(name))
		if r := s.c.OK(Op{Do: "echo", Path: s.attr(name)}); r.N != 0 || cat(s.c, s.attr(name)) != before {
			t.Errorf("an empty write to %s: %d, reads %q; want 0, %q", name, r.N, cat(s.c, s.attr(name)), before)
		}
	}

	// Where it is written makes no difference. The position moves by what was taken.
	path := s.attr("min_partial")
	for i, off := range []int64{0, 1, 100, 4096, 1<<31 - 1, 1 << 31, 1 << 40, 1<<62 - 10} {
		fd := s.c.OK(Op{Do: "open", Path: path, Flags: unix.O_RDWR}).FD
		text := fmt.Sprint(80 + i)
		s.c.OK(Op{Do: "pwrite", FD: fd, Data: []byte(text), Off: off})
		if got := cat(s.c, path); got != text+"\n" {
			t.Errorf("pwrite at %d: reads %q; want %s", off, got, text)
		}
		if st := s.c.OK(Op{Do: "fstat", FD: fd}).Stat; st.Size != 4096 {
			t.Errorf("pwrite at %d: size %d; want 4096", off, st.Size)
		}
		s.c.OK(Op{Do: "write", FD: fd, Data: []byte("90\n")})
		if r := s.c.OK(Op{Do: "read", FD: fd, Size: 10}); r.N != 0 {
			t.Errorf("read behind a write = %q; want the end", r.Data)
		}
		s.c.Want(unix.EINVAL, Op{Do: "write", FD: fd, Data: []byte("x")})
		if r := s.c.OK(Op{Do: "lseek", FD: fd, Flags: unix.SEEK_CUR}); r.N != 3 {
			t.Errorf("position after a write of 3 and one that failed: %d; want 3", r.N)
		}
		s.c.OK(Op{Do: "lseek", FD: fd})
		if r := s.c.OK(Op{Do: "read", FD: fd, Size: 10}); string(r.Data) != "90\n" {
			t.Errorf("read after a write = %q; want 90", r.Data)
		}
		s.c.Want(unix.EINVAL, Op{Do: "pwrite", FD: fd, Data: []byte("1"), Off: -1})
		s.c.OK(Op{Do: "close", FD: fd})
	}
	for _, size := range []int64{0, 100, 4096, 1<<31 - 1} {
		s.c.OK(Op{Do: "truncate", Path: path, Off: size})
		if st := s.c.OK(Op{Do: "stat", Path: path}).Stat; st.Size != 4096 || cat(s.c, path) != "90\n" {
			t.Errorf("truncate to %d: size %d, reads %q; want 4096, 90", size, st.Size, cat(s.c, path))
		}
	}
	s.c.Want(unix.EFBIG, Op{Do: "truncate", Path: path, Off: 1 << 31})

	// FUSE: an append begins at the size, in sysfs at 0.
	fd := s.c.OK(Op{Do: "open", Path: path, Flags: unix.O_WRONLY | unix.O_APPEND}).FD
	s.c.OK(Op{Do: "write", FD: fd, Data: []byte("91\n")})
	if r := s.c.OK(Op{Do: "lseek", FD: fd, Flags: unix.SEEK_CUR}); r.N != 4099 || cat(s.c, path) != "91\n" {
		t.Errorf("append: position %d, reads %q; want 4099, 91", r.N, cat(s.c, path))
	}

	// A write bit gives a file no function. Reads follow the bits as well.
	ro := s.attr("order")
	s.c.OK(Op{Do: "chmod", Path: ro, Mode: 0o600})
	s.c.Want(unix.EIO, Op{Do: "echo", Path: ro, Data: []byte("1")})
	s.c.OK(Op{Do: "chmod", Path: ro, Mode: 0o200})
	s.c.Want(unix.EACCES, Op{Do: "open", Path: ro})
	s.c.OK(Op{Do: "chmod", Path: ro, Mode: 0o400})
	cat(s.c, ro)
}
