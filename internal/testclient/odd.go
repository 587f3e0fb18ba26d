package testclient

import (
	"maps"

	"golang.org/x/sys/unix"
)

func init() { maps.Copy(ops, oddOps) }

// oddOps are operations that few programs use.
var oddOps = map[string]func(Op) (Reply, error){
	"listxattr": func(o Op) (Reply, error) { // Path; gives N
		n, err := unix.Listxattr(o.Path, nil)
		return Reply{N: int64(n)}, err
	},
	"fibmap": func(o Op) (Reply, error) { // FD; gives N: the number of the first block
		n, err := unix.IoctlGetInt(o.FD, 1)
		return Reply{N: int64(n)}, err
	},
	"fanotify": func(o Op) (Reply, error) { // Path, Flags: of fanotify_init(2); marks the mount
		fd, err := unix.FanotifyInit(uint(o.Flags), unix.O_RDONLY)
		if err != nil {
			return Reply{}, err
		}
		defer unix.Close(fd)
		return Reply{}, unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, unix.FAN_OPEN, unix.AT_FDCWD, o.Path)
	},
}
