package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The shape of the tree is the program's. Clients are refused as sysfs refuses
// them; ENOSYS would make the kernel fall back or report something else.

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

// Rename knows no flags, as in sysfs, which looks at them first.
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
