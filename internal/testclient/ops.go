package testclient

import (
	"cmp"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ops are the operations. A comment names the fields that each of them uses.
var ops = map[string]func(Op) (Reply, error){
	"open": func(o Op) (Reply, error) { // Path, Flags, Mode; gives FD
		fd, err := unix.Open(o.Path, o.Flags|unix.O_CLOEXEC, o.Mode)
		return Reply{FD: fd}, err
	},
	"openmany": func(o Op) (Reply, error) { // Path, Flags; opens it Size times; gives N: how many opens worked, FD: the last
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
	"poll": func(o Op) (Reply, error) { // FD; does not wait; gives N: revents for all events
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
	"sync": func(Op) (Reply, error) { return Reply{}, nil }, // does nothing: is the client alive?
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
	"walk": func(o Op) (Reply, error) { // Path; what ls -lR does; gives N: how many entries
		var r Reply
		return r, walk(o.Path, func(path string, _ Entry) error {
			r.N++
			var st unix.Stat_t
			return unix.Lstat(path, &st)
		})
	},
	"readall": func(o Op) (Reply, error) { // Path; opens, reads and closes each file below it; gives N: how many files
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
