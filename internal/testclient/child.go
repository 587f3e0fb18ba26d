package testclient

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
)

// An Op is one operation. Do names it. The table ops says which other fields
// count.
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

// A Reply is the result of an operation. If Errno is not 0, the rest is empty,
// except TID, which is always set.
type Reply struct {
	ID      int        `json:"id"`
	Begun   bool       `json:"begun,omitempty"` // no result yet: the thread TID begins now
	TID     int        `json:"tid,omitempty"`
	Errno   unix.Errno `json:"errno"`
	Err     string     `json:"err,omitempty"` // an error without an errno
	N       int64      `json:"n,omitempty"`
	FD      int        `json:"fd,omitempty"`
	Map     int        `json:"map,omitempty"`
	Data    []byte     `json:"data,omitempty"`
	Stat    *Stat      `json:"stat,omitempty"`
	Entries []Entry    `json:"entries,omitempty"`
}

// Stat holds fields of stat(2) and statfs(2).
type Stat struct {
	Ino, Nlink                   uint64
	Mode                         uint32
	UID, GID                     uint32
	Size, Blocks, Blksize        int64
	Atime, Mtime, Ctime          time.Time
	Bsize, Namelen, Type, FSFlag int64
}

// An Entry is a directory entry: d_name, d_ino, d_type, d_off.
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

// DetachOthers detaches all slabfs mounts except the one on keep in this mount
// namespace. The namespace must be a copy. If the copied mounts stayed, they
// would keep the servers of other tests from ending.
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
			os.Exit(1) // the parent is gone
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

// mappings are the mappings that "mmap" made, numbered from 1.
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

// walk visits the entries of a directory, then the entries of each directory in
// it.
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

// churnOnce returns 1 if the dropped entry still exists.
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

// getdents makes one getdents64(2) call. It keeps "." and "..", which
// os.ReadDir hides.
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
