package fusefs

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// TestFiles reads and writes as shells and tools do.
func TestFiles(t *testing.T) {
	t.Run("cached", func(t *testing.T) { testFiles(t, Options{}) })
	t.Run("uncached", func(t *testing.T) { testFiles(t, Options{EntryTimeout: NoCache, AttrTimeout: NoCache}) })
}

func testFiles(t *testing.T, o Options) {
	x := newFixture()
	s := serve(t, x.tree, o)
	c := testclient.Start(t, testclient.Options{})
	value := s.at("cache", "value")

	cat := func(path, want string) {
		t.Helper()
		if r := c.OK(Op{Do: "cat", Path: path}); string(r.Data) != want {
			t.Errorf("cat %s = %.40q; want %.40q", path, r.Data, want)
		}
	}
	cat(value, "120\n")
	cat(s.at("alias-cache", "value"), "120\n")
	cat(s.at("cache", "empty"), "")
	cat(s.at("cache", "long"), strings.Repeat("x", 4095))
	cat(s.at("cache", "seq"), strings.Repeat("0123456789\n", 20000))

	if r := c.OK(Op{Do: "echo", Path: value, Data: []byte("13\n")}); r.N != 3 {
		t.Errorf("echo 13 = %d; want 3", r.N)
	}
	cat(value, "13\n")

	// The offset has no meaning: append, pwrite anywhere.
	fd := c.OK(Op{Do: "open", Path: value, Flags: unix.O_WRONLY | unix.O_APPEND}).FD
	c.OK(Op{Do: "write", FD: fd, Data: []byte("14\n")})
	cat(value, "14\n")
	fd = c.OK(Op{Do: "open", Path: value, Flags: unix.O_RDWR}).FD
	for i, off := range []int64{0, 100, 4096, 1 << 40} {
		c.OK(Op{Do: "pwrite", FD: fd, Data: []byte{'2', byte('0' + i)}, Off: off})
		cat(value, "2"+string(rune('0'+i))+"\n")
	}

	// One write is one store, and two are two.
	if r := c.OK(Op{Do: "write", FD: fd, Data: []byte(strings.Repeat("0", 4093) + "121")}); r.N != 4096 {
		t.Errorf("write of a page = %d; want 4096", r.N)
	}
	cat(value, "121\n")
	long := append(bytes.Repeat([]byte("0"), 4093), []byte("122345678")...)
	if r := c.OK(Op{Do: "write", FD: fd, Data: long}); r.N != 4096 {
		t.Errorf("write of more than a page = %d; want 4096", r.N)
	}
	cat(value, "122\n")
	if r := c.OK(Op{Do: "write", FD: fd, Data: bytes.Repeat([]byte("0"), 300_000)}); r.N != 4096 {
		t.Errorf("write of 300000 bytes = %d; want 4096", r.N)
	}
	cat(value, "0\n")
	if r := c.OK(Op{Do: "write", FD: fd, Data: []byte("120\n\x00junk")}); r.N != 9 {
		t.Errorf("write with NUL = %d; want 9", r.N)
	}
	if r := c.OK(Op{Do: "write", FD: fd}); r.N != 0 {
		t.Errorf("empty write = %d; want 0", r.N)
	}
	cat(value, "120\n")

	// The parts of a writev are one store.
	if r := c.OK(Op{Do: "writev", FD: fd, Data: []byte("456")}); r.N != 3 {
		t.Errorf("writev = %d; want 3", r.N)
	}
	cat(value, "456\n")

	// A failing store has its own errno and changes nothing.
	c.Want(unix.EINVAL, Op{Do: "echo", Path: value, Data: []byte("junk")})
	c.Want(unix.EINVAL, Op{Do: "pwrite", FD: fd, Data: []byte("junk"), Off: 1 << 40})
	c.Want(unix.ERANGE, Op{Do: "echo", Path: value, Data: []byte("99999999999")})
	c.Want(unix.EBUSY, Op{Do: "echo", Path: s.at("cache", "errno"), Data: []byte("16")})
	c.Want(unix.EIO, Op{Do: "echo", Path: s.at("cache", "errno"), Data: []byte("512")})
	c.Want(unix.ENOSYS, Op{Do: "echo", Path: s.at("cache", "errno"), Data: []byte("38")})
	c.Want(unix.EIO, Op{Do: "cat", Path: s.at("cache", "errno")})
	c.OK(Op{Do: "echo", Path: value, Data: []byte("7")}) // ENOSYS above did not switch anything off
	cat(value, "7\n")

	// Sizes never change.
	for _, size := range []int64{0, 100, 1 << 20} {
		c.OK(Op{Do: "truncate", Path: value, Off: size})
		c.OK(Op{Do: "ftruncate", FD: fd, Off: size})
	}
	if st := c.OK(Op{Do: "fstat", FD: fd}).Stat; st.Size != 4096 {
		t.Errorf("size after truncate = %d; want 4096", st.Size)
	}
	for _, whence := range []struct {
		how  int
		want int64
	}{{unix.SEEK_END, 4096}, {unix.SEEK_DATA, 0}, {unix.SEEK_HOLE, 4096}} {
		if r := c.OK(Op{Do: "lseek", FD: fd, Flags: whence.how}); r.N != whence.want {
			t.Errorf("lseek(0, %d) = %d; want %d", whence.how, r.N, whence.want)
		}
	}
	c.OK(Op{Do: "fsync", FD: fd})
}

// TestRefusals is the table of what sysfs refuses root.
func TestRefusals(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	value, ro, wo := s.at("cache", "value"), s.at("cache", "ro"), s.at("cache", "wo")
	for _, tc := range []struct {
		op   Op
		want unix.Errno
	}{
		{Op{Do: "open", Path: ro, Flags: unix.O_RDONLY}, 0},
		{Op{Do: "open", Path: ro, Flags: unix.O_RDONLY | unix.O_CREAT}, 0},
		{Op{Do: "open", Path: ro, Flags: unix.O_WRONLY}, unix.EACCES},
		{Op{Do: "open", Path: ro, Flags: unix.O_RDWR}, unix.EACCES},
		{Op{Do: "open", Path: ro, Flags: unix.O_WRONLY | unix.O_TRUNC}, unix.EACCES},
		{Op{Do: "open", Path: wo, Flags: unix.O_RDONLY}, unix.EACCES},
		{Op{Do: "open", Path: wo, Flags: unix.O_RDWR}, unix.EACCES},
		{Op{Do: "open", Path: wo, Flags: unix.O_WRONLY}, 0},
		{Op{Do: "open", Path: ro, Flags: unix.O_ACCMODE}, 0}, // only for ioctl(2), which there is none
		{Op{Do: "open", Path: wo, Flags: unix.O_ACCMODE}, 0},
		{Op{Do: "access", Path: ro, Mode: unix.W_OK}, 0},
		{Op{Do: "open", Path: value, Flags: unix.O_RDWR | unix.O_DIRECT}, unix.EINVAL},
		{Op{Do: "open", Path: value, Flags: unix.O_CREAT | unix.O_EXCL}, unix.EEXIST},
		{Op{Do: "open", Path: value, Flags: unix.O_DIRECTORY}, unix.ENOTDIR},
		{Op{Do: "open", Path: value + "/x"}, unix.ENOTDIR},
		{Op{Do: "open", Path: s.at("cache"), Flags: unix.O_WRONLY}, unix.EISDIR},
		{Op{Do: "open", Path: s.at("alias-cache"), Flags: unix.O_NOFOLLOW}, unix.ELOOP},
		{Op{Do: "open", Path: s.at("new"), Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}, unix.EACCES},
		{Op{Do: "open", Path: s.at("cache", "new"), Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}, unix.EACCES},
		{Op{Do: "open", Path: s.at("cache"), Flags: unix.O_TMPFILE | unix.O_RDWR, Mode: 0o600}, unix.EOPNOTSUPP},
		{Op{Do: "open", Path: s.at("cache", "new")}, unix.ENOENT},
		{Op{Do: "unlink", Path: value}, unix.EPERM},
		{Op{Do: "unlink", Path: s.at("alias-cache")}, unix.EPERM},
		{Op{Do: "unlink", Path: s.at("cache")}, unix.EISDIR},
		{Op{Do: "rmdir", Path: s.at("cache")}, unix.EPERM},
		{Op{Do: "rmdir", Path: value}, unix.ENOTDIR},
		{Op{Do: "mkdir", Path: s.at("new")}, unix.EPERM},
		{Op{Do: "mkdir", Path: s.at("cache")}, unix.EEXIST},
		{Op{Do: "rename", Path: value, Path2: s.at("cache", "new")}, unix.EPERM},
		{Op{Do: "rename", Path: value, Path2: ro}, unix.EPERM},
		{Op{Do: "rename", Path: s.at("cache"), Path2: s.at("new")}, unix.EPERM},
		{Op{Do: "rename", Path: value, Path2: s.at("cache", "new"), Flags: unix.RENAME_NOREPLACE}, unix.EINVAL},
		{Op{Do: "rename", Path: value, Path2: ro, Flags: unix.RENAME_EXCHANGE}, unix.EINVAL},
		{Op{Do: "rename", Path: value, Path2: ro, Flags: unix.RENAME_NOREPLACE}, unix.EEXIST},
		{Op{Do: "rename", Path: value, Path2: value}, 0},
		{Op{Do: "rename", Path: value, Path2: filepath.Dir(s.Dir()) + "/x"}, unix.EXDEV},
		{Op{Do: "link", Path: value, Path2: s.at("cache", "new")}, unix.EPERM},
		{Op{Do: "symlink", Path: s.at("new"), Path2: "cache"}, unix.EPERM},
		{Op{Do: "symlink", Path: s.at("cache"), Path2: "x"}, unix.EEXIST},
		{Op{Do: "mknod", Path: s.at("new"), Mode: unix.S_IFREG | 0o600}, unix.EACCES},
		{Op{Do: "mknod", Path: s.at("new"), Mode: unix.S_IFIFO | 0o600}, unix.EPERM},
		{Op{Do: "truncate", Path: s.at("cache")}, unix.EISDIR},
		{Op{Do: "setxattr", Path: value, Path2: "user.a", Data: []byte("b")}, unix.EOPNOTSUPP},
		{Op{Do: "setxattr", Path: value, Path2: "trusted.a", Data: []byte("b")}, unix.EOPNOTSUPP},
		{Op{Do: "getxattr", Path: value, Path2: "trusted.a"}, unix.EOPNOTSUPP},
		{Op{Do: "readlink", Path: value}, unix.EINVAL},
	} {
		if r := c.Do(tc.op); r.Errno != tc.want {
			t.Errorf("%s %s %s flags %#x: errno %d (%v); want %d (%v)", tc.op.Do, tc.op.Path, tc.op.Path2, tc.op.Flags, int(r.Errno), r.Errno, int(tc.want), tc.want)
		}
	}
	fd := c.OK(Op{Do: "open", Path: value, Flags: unix.O_RDONLY}).FD
	c.Want(unix.ENODEV, Op{Do: "mmapshared", FD: fd, Size: 4096})
	c.Want(unix.EINVAL, Op{Do: "ftruncate", FD: fd, Off: 0})
	// Nothing of this had an effect.
	if got := len(c.OK(Op{Do: "readdir", Path: s.Dir()}).Entries); got != 4 {
		t.Errorf("the root lists %d names; want 4", got)
	}
	c.OK(Op{Do: "stat", Path: value})
}

// A file handle that nobody has is refused, as a descriptor would be.
func TestUnknownHandle(t *testing.T) {
	x := newFixture()
	f := newFileSystem(x.tree, Options{}, nil)
	if _, status := f.Read(nil, &fuse.ReadIn{Fh: 7}, make([]byte, 10)); status != fuse.EBADF {
		t.Errorf("a read: %v; want EBADF", status)
	}
	if n, status := f.Write(nil, &fuse.WriteIn{Fh: 7}, []byte("1")); n != 0 || status != fuse.EBADF {
		t.Errorf("a write: %d, %v; want EBADF", n, status)
	}
}

func TestStat(t *testing.T) {
	before := time.Now().Add(-time.Minute)
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	inodes := map[uint64]string{}
	for _, tc := range []struct {
		path  string
		mode  uint32
		size  int64
		nlink uint64
	}{
		{s.Dir(), unix.S_IFDIR | 0o755, 0, 3},
		{s.at("cache"), unix.S_IFDIR | 0o755, 0, 2},
		{s.at("cache", "value"), unix.S_IFREG | 0o600, 4096, 1},
		{s.at("cache", "ro"), unix.S_IFREG | 0o400, 4096, 1},
		{s.at("cache", "seq"), unix.S_IFREG | 0o400, 0, 1},
		{s.at("alias-cache"), unix.S_IFLNK | 0o777, 0, 1},
	} {
		st := c.OK(Op{Do: "lstat", Path: tc.path}).Stat
		if st.Mode != tc.mode || st.Size != tc.size || st.Nlink != tc.nlink || st.Blocks != 0 || st.Blksize != 4096 ||
			st.UID != uint32(os.Geteuid()) || st.GID != uint32(os.Getegid()) || st.Mtime.Before(before) {
			t.Errorf("lstat %s = %+v; want mode %#o, size %d, nlink %d, 0 blocks of 4096, this process's owner, a time", tc.path, *st, tc.mode, tc.size, tc.nlink)
		}
		if other := inodes[st.Ino]; other != "" {
			t.Errorf("%s and %s have inode number %d", tc.path, other, st.Ino)
		}
		inodes[st.Ino] = tc.path
	}
	if r := c.OK(Op{Do: "readlink", Path: s.at("alias-cache")}); string(r.Data) != "cache" {
		t.Errorf("readlink = %q; want %q", r.Data, "cache")
	}
	if st := c.OK(Op{Do: "statfs", Path: s.Dir()}).Stat; st.Bsize != 4096 || st.Namelen != 255 {
		t.Errorf("statfs = %+v; want bsize 4096, namelen 255", *st)
	}
	m, err := topMount(s.Dir())
	if err != nil || m.FSType != "fuse.slabfs" || !strings.Contains(m.Options, "nosuid,nodev,noexec") {
		t.Errorf("mountinfo = %+v, %v; want type fuse.slabfs, nosuid,nodev,noexec", m, err)
	}
}

// TestChangeMeta: chmod, chown and utimes are kept, and an open goes by the mode.
func TestChangeMeta(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	ro, wo := s.at("cache", "ro"), s.at("cache", "wo")
	c.OK(Op{Do: "chmod", Path: ro, Mode: 0o4622})
	c.OK(Op{Do: "chown", Path: ro, UID: 1, GID: 2})
	c.OK(Op{Do: "utimes", Path: ro, Off: 1_000_000_000})
	st := c.OK(Op{Do: "stat", Path: ro}).Stat
	if st.UID != 1 || st.GID != 2 || st.Mtime.Unix() != 1_000_000_000 || st.Atime.Unix() != 1_000_000_000 || st.Mode&0o777 != 0o622 {
		t.Errorf("stat after chmod, chown, utimes = %+v", *st)
	}
	fd := c.OK(Op{Do: "open", Path: ro, Flags: unix.O_WRONLY}).FD
	c.Want(unix.EIO, Op{Do: "write", FD: fd, Data: []byte("1")})
	c.OK(Op{Do: "chmod", Path: wo, Mode: 0o600})
	fd = c.OK(Op{Do: "open", Path: wo, Flags: unix.O_RDONLY}).FD
	c.Want(unix.EIO, Op{Do: "read", FD: fd, Size: 10})
	c.OK(Op{Do: "chmod", Path: ro, Mode: 0})
	c.Want(unix.EACCES, Op{Do: "open", Path: ro, Flags: unix.O_RDONLY})
	if st := c.OK(Op{Do: "stat", Path: ro}).Stat; st.Mode != unix.S_IFREG {
		t.Errorf("mode after chmod 0 = %#o; want %#o", st.Mode, unix.S_IFREG)
	}
	c.OK(Op{Do: "chmod", Path: s.at("cache"), Mode: 0o700})
	if st := c.OK(Op{Do: "stat", Path: s.at("cache")}).Stat; st.Mode != unix.S_IFDIR|0o700 {
		t.Errorf("mode of the directory = %#o; want 0700", st.Mode)
	}

	// It lives as long as the node, not as long as the kernel's inode.
	c.OK(Op{Do: "chown", Path: ro, UID: 3, GID: 4})
	c.OK(Op{Do: "chmod", Path: ro, Mode: 0o7777})
	c.OK(Op{Do: "utimes", Path: ro, Off: 2_000_000_000})
	before := *c.OK(Op{Do: "stat", Path: ro}).Stat
	if before.Mode != unix.S_IFREG|0o7777 || before.UID != 3 || before.GID != 4 || before.Mtime.Unix() != 2_000_000_000 {
		t.Errorf("stat after chmod 7777, chown, utimes = %+v", before)
	}
	c.Kill() // whatever it had open
	file := x.cache.Child("ro")
	eventually(t, "the kernel forgot the file", func() bool {
		s.fuse.EntryNotify(nodeID(x.cache), "ro")
		return !s.fs.knows(file)
	})
	c = testclient.Start(t, testclient.Options{})
	if after := *c.OK(Op{Do: "stat", Path: ro}).Stat; after != before {
		t.Errorf("stat after the kernel forgot the file = %+v; want %+v", after, before)
	}
}

// A directory's times move with its entries if somebody has set its metadata,
// otherwise they do not, as in sysfs.
// Mount options say who may use the files, those of later directories too.
func TestAccessOptions(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{AllowOther: true, MountOptions: []string{"uid=7", "gid=1234", "umask=027"}})
	x.add("later")
	c := testclient.Start(t, testclient.Options{})
	for name, want := range map[string]uint32{
		"": 0o40750, "value": 0o100640, "ro": 0o100440, "wo": 0o100200, "count": 0o100440,
	} {
		for _, dir := range []string{"cache", "later"} {
			st := c.OK(Op{Do: "stat", Path: s.at(dir, name)}).Stat
			if st.Mode != want || st.UID != 7 || st.GID != 1234 {
				t.Errorf("%s/%s: mode %#o of %d:%d; want %#o of 7:1234", dir, name, st.Mode, st.UID, st.GID, want)
			}
		}
	}
	if st := c.OK(Op{Do: "lstat", Path: s.at("alias-later")}).Stat; st.Mode != 0o120777 || st.GID != 1234 {
		t.Errorf("link: mode %#o of group %d; want 0120777 of 1234", st.Mode, st.GID)
	}
	member := testclient.Start(t, testclient.Options{UID: 1234}) // in the group of that number
	member.OK(Op{Do: "cat", Path: s.at("later", "value")})
	member.Want(unix.EACCES, Op{Do: "echo", Path: s.at("later", "value"), Data: []byte("1")})
	testclient.Start(t, testclient.Options{UID: testclient.Nobody}).Want(unix.EACCES, Op{Do: "cat", Path: s.at("later", "value")})
	// What is changed later counts.
	c.OK(Op{Do: "chmod", Path: s.at("cache", "value"), Mode: 0o600})
	member.Want(unix.EACCES, Op{Do: "cat", Path: s.at("cache", "value")})

	for _, o := range []string{"uid=", "gid", "gid=adm", "uid=-1", "gid=4294967295", "umask=8", "umask=1000"} {
		if _, err := Mount(s.Dir(), x.tree, Options{MountOptions: []string{o}}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q: want", o)) {
			t.Errorf("mount with %s: %v; want what is allowed", o, err)
		}
	}
}

func TestDirectoryTimes(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{AttrTimeout: NoCache})
	c := testclient.Start(t, testclient.Options{})
	stat := func() testclient.Stat { return *c.OK(Op{Do: "stat", Path: s.Dir()}).Stat }
	first := stat()
	k := x.add("new")
	if now := stat(); now.Mtime != first.Mtime || now.Ctime != first.Ctime {
		t.Errorf("times with a new entry: %+v; want %+v as before", now, first)
	}
	past := func() { c.OK(Op{Do: "utimes", Path: s.Dir(), Off: 1_000_000_000}) }
	link, ok := x.tree.Root().Child("alias-new").(*sysfs.Link)
	if !ok {
		t.Fatal("no link")
	}
	for what, change := range map[string]func(){"a new entry": func() { x.add("newer") }, "one that left": k.Remove, "a link that left": link.Remove} {
		past()
		change()
		if now := stat(); now.Mtime.Before(first.Mtime) || now.Ctime.Before(first.Ctime) || now.Atime.Unix() != 1_000_000_000 {
			t.Errorf("times with %s: %+v; want modification and change of now, access as set", what, now)
		}
	}
}

func TestOtherUser(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{UID: testclient.Nobody})
	value := s.at("cache", "value")
	for _, op := range []Op{
		{Do: "stat", Path: value},
		{Do: "readdir", Path: s.at("cache")},
		{Do: "readlink", Path: s.at("alias-cache")},
		{Do: "cat", Path: s.at("cache", "count")}, // 0444
	} {
		c.OK(op)
	}
	c.Want(unix.EACCES, Op{Do: "cat", Path: value})
	c.Want(unix.EACCES, Op{Do: "echo", Path: value, Data: []byte("5")})
	c.Want(unix.EPERM, Op{Do: "chmod", Path: value, Mode: 0o666})
	for _, op := range []Op{
		{Do: "unlink", Path: value},
		{Do: "mkdir", Path: s.at("new")},
		{Do: "truncate", Path: value},
		{Do: "rename", Path: value, Path2: value + "2"},
		{Do: "utimes", Path: value},
	} {
		if r := c.Do(op); r.Errno != unix.EACCES && r.Errno != unix.EPERM {
			t.Errorf("%s as nobody: %v; want EACCES or EPERM", op.Do, r.Errno)
		}
	}
	if x.value.Load() != 120 {
		t.Errorf("value = %d; want 120", x.value.Load())
	}
}

func TestReaddir(t *testing.T) {
	x := newFixture()
	for i := range 300 {
		x.add(strings.Repeat("n", 1+i%200) + string(rune('a'+i/200)))
	}
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	dir := c.OK(Op{Do: "readdir", Path: s.Dir()}).Entries
	if dir[0].Name != "." || dir[1].Name != ".." || len(dir) != 2+2*301 {
		t.Fatalf("%d entries, %v first; want 604, . and ..", len(dir), dir[:2])
	}
	if !slices.IsSortedFunc(dir, func(a, b testclient.Entry) int { return cmp.Compare(a.Off, b.Off) }) {
		t.Error("offsets do not ascend")
	}
	for _, e := range dir[2:] {
		n := x.tree.Root().Child(e.Name)
		want := testclient.Entry{Name: e.Name, Ino: n.Ino(), Type: unix.DT_DIR, Off: e.Off}
		if strings.HasPrefix(e.Name, "alias-") {
			want.Type = unix.DT_LNK
		}
		if st := c.OK(Op{Do: "lstat", Path: s.at(e.Name)}).Stat; e != want || st.Ino != e.Ino {
			t.Errorf("entry %+v; want %+v; lstat says %d", e, want, st.Ino)
		}
	}
	for _, e := range c.OK(Op{Do: "readdir", Path: s.at("cache")}).Entries[2:] {
		if e.Type != unix.DT_REG {
			t.Errorf("type of cache/%s = %d; want DT_REG", e.Name, e.Type)
		}
	}

	// In small pieces, while the directory changes: what stays is seen once.
	fd := c.OK(Op{Do: "open", Path: s.Dir(), Flags: unix.O_RDONLY}).FD
	seen := map[string]int{}
	for i := 0; ; i++ {
		entries := c.OK(Op{Do: "getdents", FD: fd, Size: 1024}).Entries
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			seen[e.Name]++
		}
		x.add("new" + strings.Repeat("x", i))
	}
	for _, e := range dir {
		if seen[e.Name] != 1 {
			t.Errorf("%s was listed %d times; want once", e.Name, seen[e.Name])
		}
	}
	// Rewinding lists anew.
	c.OK(Op{Do: "lseek", FD: fd})
	if again := listRest(c, fd); !slices.ContainsFunc(again, func(e testclient.Entry) bool { return e.Name == "new" }) {
		t.Error("a rewound descriptor does not list what is new")
	}
}

// listRest lists what a directory has from the descriptor's position on.
func listRest(c *testclient.Client, fd int) (entries []testclient.Entry) {
	for {
		more := c.OK(Op{Do: "getdents", FD: fd, Size: 32 << 10}).Entries
		if len(more) == 0 {
			return entries
		}
		entries = append(entries, more...)
	}
}

// An offset of one listing is good in any other, whatever came and went, the
// entry that it stood behind included.
func TestReaddirOffsets(t *testing.T) {
	for _, timeout := range []time.Duration{0, NoCache} {
		x := newFixture()
		for i := range 15 {
			x.add(fmt.Sprint("n", i))
		}
		s := serve(t, x.tree, Options{EntryTimeout: timeout, AttrTimeout: timeout})
		c := testclient.Start(t, testclient.Options{})
		names := func(entries []testclient.Entry) (names []string) {
			for _, e := range entries {
				names = append(names, e.Name)
			}
			return names
		}
		all := c.OK(Op{Do: "readdir", Path: s.Dir()}).Entries
		fd := c.OK(Op{Do: "open", Path: s.Dir()}).FD
		for i, e := range all {
			c.OK(Op{Do: "lseek", FD: fd, Off: int64(e.Off)})
			if got, want := names(listRest(c, fd)), names(all[i+1:]); !slices.Equal(got, want) {
				t.Fatalf("behind %s: %q; want %q", e.Name, got, want)
			}
		}
		c.OK(Op{Do: "lseek", FD: fd, Off: math.MaxInt64})
		if got := listRest(c, fd); len(got) != 0 {
			t.Errorf("at the last offset of all: %v; want nothing", got)
		}

		// Every other directory goes, its link stays; then it comes back as another.
		var gone []string
		for i, e := range all {
			if k, ok := x.tree.Root().Child(e.Name).(*sysfs.Kobject); ok && i%2 == 0 {
				k.Remove()
				gone = append(gone, e.Name)
			}
		}
		for i, e := range all {
			want := slices.DeleteFunc(names(all[i+1:]), func(name string) bool { return slices.Contains(gone, name) })
			c.OK(Op{Do: "lseek", FD: fd, Off: int64(e.Off)})
			if got := names(listRest(c, fd)); !slices.Equal(got, want) {
				t.Fatalf("after removals, behind %s: %q; want %q", e.Name, got, want)
			}
		}
		c.OK(Op{Do: "lseek", FD: fd})
		half := c.OK(Op{Do: "getdents", FD: fd, Size: 512}).Entries
		for _, name := range gone {
			if _, err := x.tree.Root().Add(name, nil); err != nil {
				t.Fatal(err)
			}
		}
		got := append(names(half), names(listRest(c, fd))...)
		slices.Sort(got)
		if dup := slices.Compact(slices.Clone(got)); len(dup) != len(got) {
			t.Errorf("names are listed twice: %q", got)
		}
		if again := c.OK(Op{Do: "readdir", Path: s.Dir()}).Entries; !slices.Equal(names(again), names(all)) {
			t.Errorf("all names back: %q; want %q as before", names(again), names(all))
		}
	}
}

func TestSnapshot(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "count")}).FD
	read := func(op Op, want string) {
		t.Helper()
		op.FD = fd
		if r := c.OK(op); string(r.Data) != want {
			t.Errorf("%+v = %q; want %q", op, r.Data, want)
		}
	}
	read(Op{Do: "read", Size: 3}, "gen") // dd bs=3
	read(Op{Do: "read", Size: 100}, "eration 1\n")
	read(Op{Do: "read", Size: 100}, "")
	read(Op{Do: "pread", Size: 1, Off: 11}, "2") // not where the last read ended: a new one
	read(Op{Do: "pread", Size: 100, Off: 12}, "\n")
	read(Op{Do: "read", Size: 100}, "")
	read(Op{Do: "pread", Size: 100, Off: 1 << 40}, "")
	read(Op{Do: "pread", Size: 100, Off: 11}, "4\n")
	read(Op{Do: "pread", Size: 100}, "generation 5\n") // offset 0 always makes a new one
	c.OK(Op{Do: "lseek", FD: fd})
	read(Op{Do: "read", Size: 0}, "")
	for _, b := range []byte("generation 6\n") {
		read(Op{Do: "read", Size: 1}, string(b))
	}
	read(Op{Do: "read", Size: 1}, "")
	read(Op{Do: "read", Size: 1}, "")

	// Another descriptor has its own, also when it does not begin at 0.
	other := c.OK(Op{Do: "open", Path: s.at("cache", "count")}).FD
	if r := c.OK(Op{Do: "pread", FD: other, Size: 1, Off: 11}); string(r.Data) != "7" {
		t.Errorf("pread of another descriptor = %q; want 7", r.Data)
	}
	read(Op{Do: "read", Size: 1}, "") // still at the end of its own
	if got := x.shows.Load(); got != 7 {
		t.Errorf("%d shows; want 7", got)
	}
	// A write moves the position; what is read there is the end.
	fd = c.OK(Op{Do: "open", Path: s.at("cache", "value"), Flags: unix.O_RDWR}).FD
	c.OK(Op{Do: "write", FD: fd, Data: []byte("120\n")})
	read(Op{Do: "read", Size: 100}, "")
	c.OK(Op{Do: "lseek", FD: fd})
	read(Op{Do: "read", Size: 100}, "120\n")
}

// TestRemovedDescriptors: what a descriptor can do after its file is gone.
func TestRemovedDescriptors(t *testing.T) {
	for _, timeout := range []time.Duration{0, NoCache} {
		x := newFixture()
		s := serve(t, x.tree, Options{EntryTimeout: timeout, AttrTimeout: timeout})
		c := testclient.Start(t, testclient.Options{})
		open := func(flags int, name ...string) int {
			return c.OK(Op{Do: "open", Path: s.at(append([]string{"cache"}, name...)...), Flags: flags}).FD
		}
		fresh, partly, whole := open(unix.O_RDWR, "value"), open(0, "count"), open(0, "count")
		dir, listed, pathOnly := open(0), open(0), open(unix.O_PATH, "value")
		c.OK(Op{Do: "read", FD: partly, Size: 4})
		c.OK(Op{Do: "read", FD: whole, Size: 100})
		c.OK(Op{Do: "getdents", FD: listed, Size: 4096})
		c.OK(Op{Do: "chdir", Path: s.at("cache")})

		x.cache.Remove()

		c.Want(unix.ENODEV, Op{Do: "read", FD: fresh, Size: 100})
		c.Want(unix.ENODEV, Op{Do: "pread", FD: fresh, Size: 100, Off: 1})
		c.Want(unix.ENODEV, Op{Do: "write", FD: fresh, Data: []byte("1")})
		c.Want(unix.ENODEV, Op{Do: "pwrite", FD: fresh, Data: []byte("1"), Off: 5})
		if r := c.OK(Op{Do: "read", FD: fresh}); r.N != 0 {
			t.Errorf("read of 0 bytes = %d; want 0", r.N)
		}
		if r := c.OK(Op{Do: "read", FD: partly, Size: 100}); string(r.Data) != "ration 1\n" {
			t.Errorf("rest of a snapshot = %q; want %q", r.Data, "ration 1\n")
		}
		c.Want(unix.ENODEV, Op{Do: "read", FD: partly, Size: 100})
		c.Want(unix.ENODEV, Op{Do: "read", FD: whole, Size: 100})
		c.Want(unix.ENODEV, Op{Do: "pread", FD: whole, Size: 100})
		if st := c.OK(Op{Do: "fstat", FD: fresh}).Stat; st.Nlink != 1 || st.Size != 4096 {
			t.Errorf("fstat = %+v; want nlink 1, size 4096", *st)
		}
		c.OK(Op{Do: "ftruncate", FD: fresh, Off: 0})
		c.OK(Op{Do: "fsync", FD: fresh})
		if got := c.OK(Op{Do: "getdents", FD: dir, Size: 4096}).Entries; len(got) != 2 {
			t.Errorf("a removed directory lists %v; want . and ..", got)
		}
		if got := c.OK(Op{Do: "readdir", Path: "."}).Entries; len(got) != 2 {
			t.Errorf("ls in a removed directory lists %v; want . and ..", got)
		}
		c.OK(Op{Do: "lseek", FD: listed})
		if got := c.OK(Op{Do: "getdents", FD: listed, Size: 4096}).Entries; len(got) != 2 {
			t.Errorf("a rewound removed directory lists %v; want . and ..", got)
		}
		c.Want(unix.ENOENT, Op{Do: "openat", FD: dir, Path: "value"})
		c.Want(unix.ENOENT, Op{Do: "unlink", Path: "value"})
		c.Want(unix.EPERM, Op{Do: "mkdir", Path: "new"})
		if st := c.OK(Op{Do: "fstat", FD: dir}).Stat; st.Nlink != 2 {
			t.Errorf("fstat of a removed directory = %+v; want nlink 2", *st)
		}
		c.OK(Op{Do: "chmod", Path: "/proc/self/fd/" + strconv.Itoa(fresh), Mode: 0o640})
		if st := c.OK(Op{Do: "fstat", FD: fresh}).Stat; st.Mode != unix.S_IFREG|0o640 {
			t.Errorf("mode after fchmod = %#o; want 0640", st.Mode)
		}
		// Where FUSE does not ask us: sysfs says ENODEV to these.
		c.OK(Op{Do: "write", FD: fresh})
		for _, whence := range []int{unix.SEEK_SET, unix.SEEK_CUR, unix.SEEK_END} {
			c.OK(Op{Do: "lseek", FD: fresh, Flags: whence})
		}
		c.Want(unix.ENODEV, Op{Do: "open", Path: "/proc/self/fd/" + strconv.Itoa(pathOnly)})
		c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache")})
		c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache", "value")})
		c.Want(unix.ENOENT, Op{Do: "cat", Path: s.at("alias-cache", "value")})
		c.OK(Op{Do: "chdir", Path: "/"})
		for _, fd := range []int{fresh, partly, whole, dir, listed, pathOnly} {
			c.OK(Op{Do: "close", FD: fd})
		}
		eventually(t, "the server forgot what was closed", func() bool {
			s.fs.mu.Lock()
			defer s.fs.mu.Unlock()
			return len(s.fs.files) == 0
		})
		// The kernel keeps what was open at the removal until it needs the memory,
		// and forgets the rest.
		eventually(t, "the kernel forgot what was not open", func() bool { return len(s.fs.below(x.cache)) <= 3 })
	}
}

// A lookup that loses against a removal fails, and leaves nothing behind.
func TestRemember(t *testing.T) {
	x := newFixture()
	f := newFileSystem(x.tree, Options{}, nil)
	first, second := f.remember(x.cache), f.remember(x.cache)
	if !first || !second || !f.knows(x.cache) {
		t.Error("a lookup of what is there failed")
	}
	f.Forget(nodeID(x.cache), 1)
	if !f.knows(x.cache) {
		t.Error("one of two lookups was forgotten, and the inode with it")
	}
	f.Forget(nodeID(x.cache), 1)
	if f.knows(x.cache) {
		t.Error("the inode is known after its last lookup was forgotten")
	}
	x.cache.Remove()
	if f.remember(x.cache) || f.knows(x.cache) {
		t.Error("a lookup of what is removed succeeded or left something")
	}
	f.Forget(1, 100)
	if !f.knows(x.tree.Root()) {
		t.Error("the root was forgotten")
	}
}

// What the kernel knows of a directory's files goes with the last of them, in
// whatever order it forgets.
func TestFilesAreForgotten(t *testing.T) {
	x := newFixture()
	f := newFileSystem(x.tree, Options{}, nil)
	value, ro := x.cache.Child("value"), x.cache.Child("ro")
	for _, order := range [][]sysfs.Node{{value, ro, x.cache}, {x.cache, ro, value}} {
		for _, n := range order {
			f.remember(n)
		}
		f.remember(value)
		i := f.inodes[x.cache.Ino()]
		for at, n := range order {
			if got := f.node(nodeID(n)); !f.knows(n) || got == nil || got.Ino() != n.Ino() || got.Path() != n.Path() {
				t.Errorf("%s is not known by its number", n.Path())
			}
			f.Forget(nodeID(n), 1)
			if n == value {
				if !f.knows(value) {
					t.Error("one of two lookups was forgotten, and the file with it")
				}
				f.Forget(nodeID(n), 1)
			}
			f.Forget(nodeID(n), 1) // one too many, which does nothing
			if f.knows(n) {
				t.Errorf("%s is known after its last lookup was forgotten", n.Path())
			}
			if left := len(f.inodes) - 1; left != min(1, len(order)-1-at) {
				t.Errorf("%d records after %d of %d nodes were forgotten; want one until the last", left, at+1, len(order))
			}
		}
		if i.files != nil {
			t.Error("counts of files are left")
		}
	}
	if late := text("late"); x.cache.AddFile(nil, late) != nil || !f.remember(x.cache.Child("late")) || !f.remember(value) {
		t.Error("a file that was added late cannot be looked up")
	}
}

func text(name string) *sysfs.Attribute {
	return &sysfs.Attribute{Name: name, Mode: 0o400, Show: func(context.Context, any, *bytes.Buffer) error { return nil }}
}

// TestOneProcessor runs the basic test with one processor, where a server that
// needs a second one to answer itself locks up.
func TestOneProcessor(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestFiles|TestRemovedDescriptors|TestReaddir)$", "-test.v")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFiles")) && os.Geteuid() == 0 {
		t.Errorf("with one processor: %v\n%s", err, out)
	}
}
