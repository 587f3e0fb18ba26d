package testclient

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
)

// An Op is one operation. Do names it; which other fields count is told in the
// table ops.
type Op struct {
	ID    int    `json:"id"`
	Do    string `json:"do"`
	Path  string `json:"path,omitempty"`
	Path2 string `json:"path2,omitempty"`
	FD    int    `json:"fd,omitempty"`
	Map   int    `json:"map,omitempty"`
	Flags int    `json:"flags,omitempty"`
	Mode  uint32 `json:"mode,omitempty"`
	Off   int64  `json:"off,omitempty"`
	Size  int    `json:"size,omitempty"`
	UID   int    `json:"uid,omitempty"`
	GID   int    `json:"gid,omitempty"`
	Data  []byte `json:"data,omitempty"`
}

// A Reply is what an operation gave. With Errno != 0 the rest is empty, except
// that TID is always set.
type Reply struct {
	ID      int        `json:"id"`
	Begun   bool       `json:"begun,omitempty"` // not the end: the thread TID begins now
	TID     int        `json:"tid,omitempty"`
	Errno   unix.Errno `json:"errno"`
	Err     string     `json:"err,omitempty"` // an error without a number
	N       int64      `json:"n,omitempty"`
	FD      int        `json:"fd,omitempty"`
	Map     int        `json:"map,omitempty"`
	Data    []byte     `json:"data,omitempty"`
	Stat    *Stat      `json:"stat,omitempty"`
	Entries []Entry    `json:"entries,omitempty"`
}

// Stat is what stat(2) and statfs(2) show.
type Stat struct {
	Ino, Nlink                   uint64
	Mode                         uint32
	UID, GID                     uint32
	Size, Blocks, Blksize        int64
	Atime, Mtime, Ctime          time.Time
	Bsize, Namelen, Type, FSFlag int64
}

// An Entry is a line of a directory: d_name, d_ino, d_type, d_off.
type Entry struct {
	Name string
	Ino  uint64
	Type byte
	Off  uint64
}

const (
	env     = "SLABFS_TEST_CLIENT"
	keepEnv = "SLABFS_TEST_CLIENT_KEEP" // the only slabfs mount to keep in a new mount namespace
)

// DetachOthers takes all slabfs mounts but the one on keep out of this mount
// namespace, which must be a copy: a copy that lives on keeps the servers of other
// tests from ending.
func DetachOthers(keep string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("fuse.slabfs"))
	for _, m := range mounts {
		if m.Mountpoint != keep {
			err = errors.Join(err, unix.Unmount(m.Mountpoint, unix.MNT_DETACH))
		}
	}
	return err
}

// Main serves operations and exits, if this process was started by Start.
// Otherwise it does nothing.
func Main() {
	if os.Getenv(env) == "" {
		return
	}
	if keep := os.Getenv(keepEnv); keep != "" {
		if err := DetachOthers(keep); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	out := json.NewEncoder(os.Stdout)
	var mu lockdep.Mutex
	send := func(r Reply) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(r); err != nil {
			os.Exit(1) // nobody listens any more
		}
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var op Op
		if err := in.Decode(&op); err != nil {
			os.Exit(0)
		}
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the operation
			tid := unix.Gettid()
			send(Reply{ID: op.ID, Begun: true, TID: tid})
			r := run(op)
			r.ID, r.TID = op.ID, tid
			send(r)
		}()
	}
}

func run(op Op) Reply {
	do := ops[op.Do]
	if do == nil {
		return Reply{Err: fmt.Sprintf("unknown operation %q", op.Do)}
	}
	r, err := do(op)
	if err == nil {
		return r
	}
	if !errors.As(err, &r.Errno) {
		r.Err = err.Error()
	}
	return Reply{Errno: r.Errno, Err: r.Err}
}

// mappings are what "mmap" made, by number from 1.
var mappings struct {
	mu  lockdep.Mutex
	all [][]byte
}

func mapping(i int) ([]byte, error) {
	mappings.mu.Lock()
	defer mappings.mu.Unlock()
	if i < 1 || i > len(mappings.all) {
		return nil, fmt.Errorf("no mapping %d", i)
	}
	return mappings.all[i-1], nil
}

// ops are the operations; a comment names the fields that count.
var ops = map[string]func(Op) (Reply, error){
	"open": func(o Op) (Reply, error) { // Path, Flags, Mode; gives FD
		fd, err := unix.Open(o.Path, o.Flags|unix.O_CLOEXEC, o.Mode)
		return Reply{FD: fd}, err
	},
	"openmany": func(o Op) (Reply, error) { // Path, Flags; opens it Size times; gives N: how often that worked, FD: the last
		var r Reply
		for r.N < int64(o.Size) {
			fd, err := unix.Open(o.Path, o.Flags|unix.O_CLOEXEC, 0)
			if err != nil {
				return r, err
			}
			r.N, r.FD = r.N+1, fd
		}
		return r, nil
	},
	"openat": func(o Op) (Reply, error) { // FD, Path, Flags, Mode; gives FD
		fd, err := unix.Openat(o.FD, o.Path, o.Flags|unix.O_CLOEXEC, o.Mode)
		return Reply{FD: fd}, err
	},
	"close": func(o Op) (Reply, error) { return Reply{}, unix.Close(o.FD) }, // FD
	"read": func(o Op) (Reply, error) { // FD, Size; gives N, Data
		buf := make([]byte, o.Size)
		n, err := unix.Read(o.FD, buf)
		return Reply{N: int64(n), Data: buf[:max(n, 0)]}, err
	},
	"pread": func(o Op) (Reply, error) { // FD, Size, Off; gives N, Data
		buf := make([]byte, o.Size)
		n, err := unix.Pread(o.FD, buf, o.Off)
		return Reply{N: int64(n), Data: buf[:max(n, 0)]}, err
	},
	"write": func(o Op) (Reply, error) { // FD, Data; gives N
		n, err := unix.Write(o.FD, o.Data)
		return Reply{N: int64(n)}, err
	},
	"pwrite": func(o Op) (Reply, error) { // FD, Data, Off; gives N
		n, err := unix.Pwrite(o.FD, o.Data, o.Off)
		return Reply{N: int64(n)}, err
	},
	"writev": func(o Op) (Reply, error) { // FD, Data: one part for each byte, each on a page of its own; gives N
		var parts [][]byte
		for _, b := range o.Data {
			parts = append(parts, append(make([]byte, 0, 2*4096), b))
		}
		n, err := unix.Writev(o.FD, parts)
		return Reply{N: int64(n)}, err
	},
	"lseek": func(o Op) (Reply, error) { // FD, Off, Flags: whence; gives N
		n, err := unix.Seek(o.FD, o.Off, o.Flags)
		return Reply{N: n}, err
	},
	"cat": func(o Op) (Reply, error) { // Path, Size: of each read, 0 for a large one; opens, reads to the end, closes, and like cat(1) reads again after EINTR; gives Data
		fd, err := unix.Open(o.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return Reply{}, err
		}
		defer unix.Close(fd)
		var data []byte
		buf := make([]byte, cmp.Or(o.Size, 64<<10))
		for {
			n, err := unix.Read(fd, buf)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				return Reply{N: int64(len(data)), Data: data}, err
			}
			data = append(data, buf[:n]...)
		}
	},
	"loop": func(o Op) (Reply, error) { // Path; open, read, close, Size times; gives N: nanoseconds
		buf := make([]byte, 4096)
		start := time.Now()
		for range o.Size {
			if err := readOnce(o.Path, buf); err != nil {
				return Reply{}, err
			}
		}
		return Reply{N: int64(time.Since(start))}, nil
	},
	"echo": func(o Op) (Reply, error) { // Path, Data; what a shell does for `echo >Path`; gives N
		fd, err := unix.Open(o.Path, unix.O_WRONLY|unix.O_TRUNC|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
		if err != nil {
			return Reply{}, err
		}
		defer unix.Close(fd)
		n, err := unix.Write(fd, o.Data)
		return Reply{N: int64(n)}, err
	},
	"stat": func(o Op) (Reply, error) { // Path; gives Stat
		var st unix.Stat_t
		err := unix.Stat(o.Path, &st)
		return Reply{Stat: newStat(&st)}, err
	},
	"lstat": func(o Op) (Reply, error) { // Path; gives Stat
		var st unix.Stat_t
		err := unix.Lstat(o.Path, &st)
		return Reply{Stat: newStat(&st)}, err
	},
	"fstat": func(o Op) (Reply, error) { // FD; gives Stat
		var st unix.Stat_t
		err := unix.Fstat(o.FD, &st)
		return Reply{Stat: newStat(&st)}, err
	},
	"statfs": func(o Op) (Reply, error) { // Path; gives Stat.Bsize, Namelen, Type, FSFlag
		var st unix.Statfs_t
		err := unix.Statfs(o.Path, &st)
		return Reply{Stat: &Stat{Bsize: st.Bsize, Namelen: st.Namelen, Type: st.Type, FSFlag: st.Flags}}, err
	},
	"access":    func(o Op) (Reply, error) { return Reply{}, unix.Access(o.Path, o.Mode) },       // Path, Mode
	"truncate":  func(o Op) (Reply, error) { return Reply{}, unix.Truncate(o.Path, o.Off) },      // Path, Off
	"ftruncate": func(o Op) (Reply, error) { return Reply{}, unix.Ftruncate(o.FD, o.Off) },       // FD, Off
	"fsync":     func(o Op) (Reply, error) { return Reply{}, unix.Fsync(o.FD) },                  // FD
	"chmod":     func(o Op) (Reply, error) { return Reply{}, unix.Chmod(o.Path, o.Mode) },        // Path, Mode
	"chown":     func(o Op) (Reply, error) { return Reply{}, unix.Lchown(o.Path, o.UID, o.GID) }, // Path, UID, GID
	"utimes": func(o Op) (Reply, error) { // Path, Off: both times, in seconds
		tv := unix.Timeval{Sec: o.Off}
		return Reply{}, unix.Utimes(o.Path, []unix.Timeval{tv, tv})
	},
	"mkdir":  func(o Op) (Reply, error) { return Reply{}, unix.Mkdir(o.Path, 0o777) }, // Path
	"rmdir":  func(o Op) (Reply, error) { return Reply{}, unix.Rmdir(o.Path) },        // Path
	"unlink": func(o Op) (Reply, error) { return Reply{}, unix.Unlink(o.Path) },       // Path
	"rename": func(o Op) (Reply, error) { // Path, Path2, Flags
		return Reply{}, unix.Renameat2(unix.AT_FDCWD, o.Path, unix.AT_FDCWD, o.Path2, uint(o.Flags))
	},
	"link":    func(o Op) (Reply, error) { return Reply{}, unix.Link(o.Path, o.Path2) },    // Path, Path2
	"symlink": func(o Op) (Reply, error) { return Reply{}, unix.Symlink(o.Path2, o.Path) }, // Path, Path2: target
	"mknod":   func(o Op) (Reply, error) { return Reply{}, unix.Mknod(o.Path, o.Mode, 0) }, // Path, Mode
	"chdir":   func(o Op) (Reply, error) { return Reply{}, unix.Chdir(o.Path) },            // Path
	"setfl": func(o Op) (Reply, error) { // FD, Flags; fcntl(2)
		_, err := unix.FcntlInt(uintptr(o.FD), unix.F_SETFL, o.Flags)
		return Reply{}, err
	},
	"sendfile": func(o Op) (Reply, error) { // FD, Size; from the beginning, into a pipe that nobody reads; gives N
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return Reply{}, err
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
		n, err := unix.Sendfile(pipe[1], o.FD, new(int64), o.Size)
		return Reply{N: int64(n)}, err
	},
	"sendcat": func(o Op) (Reply, error) { // Path; cat by sendfile(2), as busybox and Java copy; gives Data
		fd, err := unix.Open(o.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return Reply{}, err
		}
		defer unix.Close(fd)
		to, err := unix.MemfdCreate("sendcat", unix.MFD_CLOEXEC)
		if err != nil {
			return Reply{}, err
		}
		copied := os.NewFile(uintptr(to), "sendcat")
		defer copied.Close()
		for {
			n, err := unix.Sendfile(to, fd, nil, 16<<20)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				data, readErr := io.ReadAll(io.NewSectionReader(copied, 0, 1<<30))
				return Reply{N: int64(len(data)), Data: data}, errors.Join(err, readErr)
			}
		}
	},
	"poll": func(o Op) (Reply, error) { // FD; does not wait; gives N: revents of all that can be asked for
		fds := []unix.PollFd{{Fd: int32(o.FD), Events: unix.POLLIN | unix.POLLPRI | unix.POLLOUT | unix.POLLERR}}
		_, err := unix.Poll(fds, 0)
		return Reply{N: int64(fds[0].Revents)}, err
	},
	"handle": func(o Op) (Reply, error) { // Path; name_to_handle_at(2)
		_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, o.Path, 0)
		return Reply{}, err
	},
	"churn": func(o Op) (Reply, error) { // Path, Path2, Data, Size; Size times: writes Data to Path/make, looks up Path2, writes Data to Path/drop, looks again; gives N: how often Path2 was still there
		var r Reply
		for range o.Size {
			there, err := churnOnce(o)
			if err != nil {
				return r, err
			}
			r.N += int64(there)
		}
		return r, nil
	},
	"sync": func(Op) (Reply, error) { return Reply{}, nil }, // nothing: is the client there?
	"setxattr": func(o Op) (Reply, error) { // Path, Path2: name, Data
		return Reply{}, unix.Setxattr(o.Path, o.Path2, o.Data, 0)
	},
	"getxattr": func(o Op) (Reply, error) { // Path, Path2: name; gives N
		n, err := unix.Getxattr(o.Path, o.Path2, nil)
		return Reply{N: int64(n)}, err
	},
	"readlink": func(o Op) (Reply, error) { // Path; gives Data
		buf := make([]byte, 4096)
		n, err := unix.Readlink(o.Path, buf)
		return Reply{Data: buf[:max(n, 0)]}, err
	},
	"readdir": func(o Op) (Reply, error) { // Path; opens, lists, closes; gives Entries
		entries, err := readdir(o.Path)
		return Reply{Entries: entries}, err
	},
	"walk": func(o Op) (Reply, error) { // Path; what ls -lR does; gives N: how many it has seen
		var r Reply
		return r, walk(o.Path, func(path string, _ Entry) error {
			r.N++
			var st unix.Stat_t
			return unix.Lstat(path, &st)
		})
	},
	"readall": func(o Op) (Reply, error) { // Path; opens, reads and closes each file below; gives N: how many
		var r Reply
		buf := make([]byte, 4096)
		return r, walk(o.Path, func(path string, e Entry) error {
			if e.Type != unix.DT_REG {
				return nil
			}
			r.N++
			return readOnce(path, buf)
		})
	},
	"getdents": func(o Op) (Reply, error) { // FD, Size; one call; gives Entries
		entries, err := getdents(o.FD, make([]byte, o.Size))
		return Reply{Entries: entries}, err
	},
	"mmap": func(o Op) (Reply, error) { // FD, Size; private, readable and writable; gives Map
		m, err := unix.Mmap(o.FD, 0, o.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		if err != nil {
			return Reply{}, err
		}
		mappings.mu.Lock()
		defer mappings.mu.Unlock()
		mappings.all = append(mappings.all, m)
		return Reply{Map: len(mappings.all)}, nil
	},
	"mmapprivate": func(o Op) (Reply, error) { // FD, Size
		m, err := unix.Mmap(o.FD, 0, o.Size, unix.PROT_READ, unix.MAP_PRIVATE)
		if err == nil {
			err = unix.Munmap(m)
		}
		return Reply{}, err
	},
	"mmapshared": func(o Op) (Reply, error) { // FD, Size
		m, err := unix.Mmap(o.FD, 0, o.Size, unix.PROT_READ, unix.MAP_SHARED)
		if err == nil {
			err = unix.Munmap(m)
		}
		return Reply{}, err
	},
	"writemap": func(o Op) (Reply, error) { // FD, Map, Size; write(2) from a mapping; gives N
		m, err := mapping(o.Map)
		if err != nil {
			return Reply{}, err
		}
		n, err := unix.Write(o.FD, m[:o.Size])
		return Reply{N: int64(n)}, err
	},
	"getdentsmap": func(o Op) (Reply, error) { // FD, Map; getdents(2) into a mapping; gives N
		m, err := mapping(o.Map)
		if err != nil {
			return Reply{}, err
		}
		n, err := unix.Getdents(o.FD, m)
		return Reply{N: int64(n)}, err
	},
	"peek": func(o Op) (Reply, error) { // Map, Size; reads a mapping; gives Data
		m, err := mapping(o.Map)
		if err != nil {
			return Reply{}, err
		}
		return Reply{Data: append([]byte(nil), m[:o.Size]...)}, nil
	},
}

func newStat(st *unix.Stat_t) *Stat {
	return &Stat{
		Ino: st.Ino, Nlink: uint64(st.Nlink), Mode: st.Mode, UID: st.Uid, GID: st.Gid,
		Size: st.Size, Blocks: st.Blocks, Blksize: int64(st.Blksize),
		Atime: time.Unix(st.Atim.Unix()), Mtime: time.Unix(st.Mtim.Unix()), Ctime: time.Unix(st.Ctim.Unix()),
	}
}

func readdir(dir string) (entries []Entry, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		more, err := getdents(fd, make([]byte, 32<<10))
		if err != nil || len(more) == 0 {
			return entries, err
		}
		entries = append(entries, more...)
	}
}

// walk visits what is in a directory, then what is in each directory there.
func walk(dir string, visit func(path string, e Entry) error) error {
	entries, err := readdir(dir)
	for _, e := range entries {
		if e.Name != "." && e.Name != ".." && err == nil {
			err = visit(filepath.Join(dir, e.Name), e)
		}
	}
	for _, e := range entries {
		if e.Name != "." && e.Name != ".." && e.Type == unix.DT_DIR && err == nil {
			err = walk(filepath.Join(dir, e.Name), visit)
		}
	}
	return err
}

// readOnce opens, reads and closes.
func readOnce(path string, buf []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Read(fd, buf)
	return errors.Join(err, unix.Close(fd))
}

// churnOnce reports 1 if what was dropped is still there.
func churnOnce(o Op) (there int, err error) {
	var st unix.Stat_t
	if err := writeOnce(o.Path+"/make", o.Data); err != nil {
		return 0, err
	}
	if err := unix.Lstat(o.Path2, &st); err != nil {
		return 0, err
	}
	if err := writeOnce(o.Path+"/drop", o.Data); err != nil {
		return 0, err
	}
	switch err := unix.Lstat(o.Path2, &st); err {
	case nil:
		return 1, nil
	case unix.ENOENT:
		return 0, nil
	default:
		return 0, err
	}
}

func writeOnce(path string, data []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, data)
	return errors.Join(err, unix.Close(fd))
}

// getdents is one getdents64(2). It keeps "." and "..", which os.ReadDir hides.
func getdents(fd int, buf []byte) ([]Entry, error) {
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for buf = buf[:n]; len(buf) > 0; {
		length := int(buf[16]) | int(buf[17])<<8
		name := buf[19:length]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		entries = append(entries, Entry{
			Name: string(name), Type: buf[18],
			Ino: binary.NativeEndian.Uint64(buf), Off: binary.NativeEndian.Uint64(buf[8:]),
		})
		buf = buf[length:]
	}
	return entries, nil
}
