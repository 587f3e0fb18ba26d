package fusefs

import (
	"context"
	"io/fs"
	"math"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

const (
	modeDir  = syscall.S_IFDIR
	modeFile = syscall.S_IFREG
	modeLink = syscall.S_IFLNK

	maxSize = math.MaxInt32 // largest size that truncate of a sysfs file accepts
)

// fileSystem answers the kernel's requests.
//
// Requests without a method here are answered with ENOSYS. The kernel then does
// what is usual, and does not ask again: fsync succeeds, there are no extended
// attributes, and ioctl is ENOTTY.
type fileSystem struct {
	fuse.RawFileSystem
	root                      *sysfs.Kobject  // I
	entryTimeout, attrTimeout time.Duration   // I
	slots                     chan struct{}   // I: one element for each running Store
	ended                     <-chan struct{} // I: closed at the end; clients may live on
	started                   time.Time       // I

	mu      lockdep.Mutex
	inodes  map[uint64]*inode    // mu: what the kernel knows, by inode number
	files   map[uint64]*openFile // mu: by file handle
	handles uint64               // mu: the last handle assigned
	doubt   time.Time            // mu: until then, the kernel must not keep names of files
	left    []departure          // mu: of the last second, oldest first
}

func newFileSystem(t *sysfs.Tree, o Options, ended <-chan struct{}) *fileSystem {
	f := &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		root:          t.Root(),
		entryTimeout:  timeout(o.EntryTimeout),
		attrTimeout:   timeout(o.AttrTimeout),
		slots:         make(chan struct{}, o.MaxStores),
		ended:         ended,
		started:       time.Now(),
		inodes:        map[uint64]*inode{t.Root().Ino(): {node: t.Root(), known: known{lookups: 1}}},
		files:         make(map[uint64]*openFile),
	}
	f.mu.Init(lockdep.Leaf)
	return f
}

func (f *fileSystem) String() string { return fsName }

func (f *fileSystem) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, ok := f.node(in.NodeId).(*sysfs.Kobject)
	if !ok {
		return fuse.ENOENT
	}
	defer inodeLocked(dir, lockdep.Shared)()
	n := dir.Child(name)
	if n == nil || !f.remember(n) {
		return fuse.ENOENT
	}
	f.fillEntry(n, out, true)
	return fuse.OK
}

func (f *fileSystem) fillEntry(n sysfs.Node, out *fuse.EntryOut, walk bool) {
	out.NodeId = nodeID(n)
	out.SetEntryTimeout(f.believe(n, walk))
	out.SetAttrTimeout(f.attrTimeout)
	fillAttr(n, &out.Attr)
}

func typeBits(n sysfs.Node) uint32 {
	switch n.(type) {
	case *sysfs.Kobject:
		return modeDir
	case *sysfs.Link:
		return modeLink
	}
	return modeFile
}

// fillAttr writes the attributes that sysfs shows: no blocks, a link without a
// length, a file of one page.
func fillAttr(n sysfs.Node, out *fuse.Attr) {
	m := n.Meta()
	out.Ino = n.Ino()
	out.Mode = typeBits(n) | uint32(m.Mode)
	out.Owner = fuse.Owner{Uid: m.UID, Gid: m.GID}
	out.SetTimes(&m.Atime, &m.Mtime, &m.Ctime)
	out.Blksize = sysfs.PageSize
	out.Nlink = 1
	switch n := n.(type) {
	case *sysfs.Kobject:
		out.Nlink = uint32(n.Links())
	case *sysfs.File:
		out.Size = uint64(n.Size())
		if n.Attr().Seq && out.Size > 0 {
			out.Blksize = uint32(out.Size) // all of it in one read
		}
	}
}

func (f *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := f.node(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	out.SetTimeout(f.attrTimeout)
	fillAttr(n, &out.Attr)
	return fuse.OK
}

// SetAttr stores mode, owner and times in the node. It accepts and ignores a
// change of size, because `echo 1 >file` begins with one.
func (f *fileSystem) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := f.node(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if size, ok := in.GetSize(); ok && size > maxSize {
		return fuse.Status(syscall.EFBIG)
	}
	defer inodeLocked(n, lockdep.Exclusive)()
	const kept = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_ATIME | fuse.FATTR_MTIME
	if in.Valid&kept != 0 {
		n.SetMeta(func(m *sysfs.Meta) {
			if mode, ok := in.GetMode(); ok {
				m.Mode = fs.FileMode(mode)
			}
			if uid, ok := in.GetUID(); ok {
				m.UID = uid
			}
			if gid, ok := in.GetGID(); ok {
				m.GID = gid
			}
			if t, ok := in.GetATime(); ok {
				m.Atime = t
			}
			if t, ok := in.GetMTime(); ok {
				m.Mtime = t
			}
			m.Ctime = time.Now()
		})
	}
	return f.GetAttr(cancel, &fuse.GetAttrIn{InHeader: in.InHeader}, out)
}

func (f *fileSystem) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	l, ok := f.node(in.NodeId).(*sysfs.Link)
	if !ok {
		return nil, fuse.EINVAL
	}
	return []byte(l.Target()), fuse.OK
}

// Open refuses access that the mode has no bit for, as sysfs does. This
// includes root, which passes the kernel's check.
//
// A file that is opened only for writing gets no direct I/O. The kernel then
// gathers the segments of a writev in pages, and all of them arrive in one
// request. With direct I/O, each segment takes a page of the request. The price
// is that writers of one file run one after another, as they do anyway after an
// O_TRUNC.
func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	file, ok := f.node(in.NodeId).(*sysfs.File)
	switch {
	case !ok:
		return fuse.Status(syscall.ESTALE)
	case file.Removed():
		return f.removed(file)
	}
	mode, access := file.Meta().Mode, in.Flags&syscall.O_ACCMODE
	// Access mode 3 neither reads nor writes.
	switch {
	case access == syscall.O_RDONLY && mode&0o444 == 0, access == syscall.O_WRONLY && mode&0o222 == 0,
		access == syscall.O_RDWR && (mode&0o444 == 0 || mode&0o222 == 0):
		return fuse.EACCES
	case in.Flags&syscall.O_DIRECT != 0:
		return fuse.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.knowledge(file); k != nil {
		k.opened()
	}
	f.handles++
	out.Fh = f.handles
	lock := lockdep.Exclusive
	if access != syscall.O_WRONLY {
		lock = lockdep.Shared
		out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	}
	f.files[f.handles] = newOpenFile(file, lock)
	return fuse.OK
}

// begin returns the context and the open file of a Show or a Store, or an error
// if none may begin.
func (f *fileSystem) begin(cancel <-chan struct{}, in *fuse.InHeader, handle uint64) (context.Context, *openFile, fuse.Status) {
	select {
	case <-f.ended:
		return nil, nil, fuse.ENODEV
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.files[handle]
	if file == nil { // cannot happen: the kernel gets all handles from us
		return nil, nil, fuse.EBADF
	}
	return &fuse.Context{Caller: in.Caller, Cancel: cancel}, file, fuse.OK
}

func (f *fileSystem) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	ctx, file, status := f.begin(cancel, &in.InHeader, in.Fh)
	if !status.Ok() {
		return nil, status
	}
	n, err := file.read(ctx, buf, in.Offset)
	if err != nil {
		return nil, toErrno(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func (f *fileSystem) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	ctx, file, status := f.begin(cancel, &in.InHeader, in.Fh)
	if !status.Ok() {
		return 0, status
	}
	defer inodeLocked(file.file, file.lock)()
	n, err := file.write(ctx, data, f.slots)
	return uint32(n), toErrno(err)
}

func (f *fileSystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, in.Fh)
}

// Flush answers ENOSYS. The kernel asks only once, and close does not wait for
// us.
func (f *fileSystem) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// OpenDir also opens a removed directory, as sysfs does; `ls` then shows it as
// empty. An open directory has no state here.
func (f *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	if _, ok := f.node(in.NodeId).(*sysfs.Kobject); !ok {
		return fuse.Status(syscall.ESTALE)
	}
	return fuse.OK
}

func (f *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir, ok := f.node(in.NodeId).(*sysfs.Kobject)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	defer inodeLocked(dir, lockdep.Shared)()
	for e := range list(dir, in.Offset) {
		if !out.AddDirEntry(fuse.DirEntry{Name: e.name, Ino: e.ino, Mode: e.mode, Off: e.next}) {
			break
		}
	}
	return fuse.OK
}

// ReadDirPlus is ReadDir with a lookup of each entry. An entry without a node
// number is only listed.
func (f *fileSystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir, ok := f.node(in.NodeId).(*sysfs.Kobject)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	defer inodeLocked(dir, lockdep.Shared)()
	for e := range list(dir, in.Offset) {
		entry := out.AddDirLookupEntry(fuse.DirEntry{Name: e.name, Ino: e.ino, Mode: e.mode, Off: e.next})
		if entry == nil {
			break
		}
		if e.node != nil && f.remember(e.node) {
			f.fillEntry(e.node, entry, false)
		}
	}
	return fuse.OK
}

// FsyncDir is refused, like every fsync of a directory of sysfs.
func (f *fileSystem) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.EINVAL }

func (f *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = sysfs.PageSize, sysfs.PageSize, 255
	return fuse.OK
}
