package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Only the program changes the shape of the tree. Clients get the errors that
// sysfs returns. ENOSYS would make the kernel try something else or report
// another error.

func (f *fileSystem) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return fuse.EACCES
}

func (f *fileSystem) Mknod(_ <-chan struct{}, in *fuse.MknodIn, _ string, _ *fuse.EntryOut) fuse.Status {
	if in.Mode&syscall.S_IFMT == syscall.S_IFREG {
		return fuse.EACCES
	}
	return fuse.EPERM
}

func (f *fileSystem) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

func (f *fileSystem) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EPERM }

func (f *fileSystem) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EPERM }

// Rename checks the flags first and accepts none, as sysfs does.
func (f *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, _, _ string) fuse.Status {
	if in.Flags != 0 {
		return fuse.EINVAL
	}
	return fuse.EPERM
}

func (f *fileSystem) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

func (f *fileSystem) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}
