package fusefs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"slabfs/sysfs"
)

// toErrno is the only place where a Go error becomes an errno. An error without
// a case of its own is EIO.
func toErrno(err error) fuse.Status {
	var errno syscall.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.As(err, &errno):
		if errno == 0 || errno >= 512 { // the kernel accepts no other numbers
			return fuse.EIO
		}
		return fuse.Status(errno)
	case errors.Is(err, sysfs.ErrSyntax), errors.Is(err, sysfs.ErrInvalid):
		return fuse.EINVAL
	case errors.Is(err, sysfs.ErrRange):
		return fuse.ERANGE
	case errors.Is(err, sysfs.ErrGone):
		return fuse.ENODEV
	case errors.Is(err, sysfs.ErrExist), errors.Is(err, fs.ErrExist):
		return fuse.Status(syscall.EEXIST)
	case errors.Is(err, fs.ErrNotExist):
		return fuse.ENOENT
	case errors.Is(err, fs.ErrPermission):
		return fuse.EPERM
	case errors.Is(err, context.Canceled):
		return fuse.EINTR
	default:
		return fuse.EIO
	}
}
