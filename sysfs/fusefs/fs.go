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

	maxSize = math.MaxInt32 // of a file of sysfs, as far as truncate is concerned
)

// fileSystem answers the kernel's requests.
//
// What it does not define is answered with ENOSYS, which the kernel takes for
// "as usual" and does not ask again: fsync succeeds, there are no extended
// attributes, ioctl is ENOTTY.
type fileSystem struct {
	fuse.RawFileSystem
	root                      *sysfs.Kobject  // I
	entryTimeout, attrTimeout time.Duration   // I
	slots                     chan struct{}   // I: one element for each Store under way
	ended                     <-chan struct{} // I: closed when serving ends; clients of a detached mount may live on
	started                   time.Time       // I

	mu      lockdep.Mutex
	inodes  map[uint64]*inode    // mu: what the kernel knows; key: inode number of a directory or a link
	files   map[uint64]*openFile // mu: key: file handle
	handles uint64               // mu: last one given out
	doubt   time.Time            // mu: until when no name of a file is to be believed
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

// fillAttr writes what sysfs shows of such a node: no blocks, a link without a
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

// SetAttr keeps mode, owner and times with the node. A change of size is
// accepted and ignored, because `echo 1 >file` begins with one.
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

// Open refuses what the mode has no bit for, even to root, who passes the
// kernel's check: sysfs does so.
//
// One that only writes is not read, so that it needs no direct I/O. The kernel then
// gathers the segments of a writev in pages, and all of them arrive in one request;
// with direct I/O each takes a page of the request. The price is that writers
// of one file follow one another, as they do anyway after an O_TRUNC.
func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	file, ok := f.node(in.NodeId).(*sysfs.File)
	switch {
	case !ok:
		return fuse.Status(syscall.ESTALE)
	case file.Removed():
		return f.removed(file)
	}
	mode, access := file.Meta().Mode, in.Flags&syscall.O_ACCMODE
	switch {
	case access == syscall.O_RDONLY && mode&0o444 == 0, access == syscall.O_WRONLY && mode&0o222 == 0,
		access == syscall.O_RDWR && (mode&0o444 == 0 || mode&0o222 == 0): // the fourth way, 3, neither reads nor writes
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

// begin returns the context of a Show or a Store and the open file that it is
// of, or an error if none may begin.
func (f *fileSystem) begin(cancel <-chan struct{}, in *fuse.InHeader, handle uint64) (context.Context, *openFile, fuse.Status) {
	select {
	case <-f.ended:
		return nil, nil, fuse.ENODEV
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.files[handle]
	if file == nil { // the kernel has all handles from us
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

// Flush is answered with ENOSYS: the kernel asks once, and no close waits for us.
func (f *fileSystem) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// OpenDir also opens a removed directory, which is then empty, so that `ls` in
// it works as in sysfs. An open directory has no state here.
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

// ReadDirPlus is ReadDir and a lookup of each entry in one. An entry without a
// node number is listed only.
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

// FsyncDir is refused, as every fsync of a directory of sysfs.
func (f *fileSystem) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.EINVAL }

func (f *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = sysfs.PageSize, sysfs.PageSize, 255
	return fuse.OK
}
