package fusefs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"slabfs/sysfs"
)

// This file records what the kernel knows. There is a record for each directory
// and each link that the kernel has looked up. The files of a directory take a
// few bytes each, in a list of its record. The list is dropped when the kernel
// has forgotten all of them.

// inode is what the kernel knows of a directory or a link, and of the files in
// a directory.
type inode struct {
	known
	node  sysfs.Node // *sysfs.Kobject or *sysfs.Link
	again time.Time  // when the kernel last looked up a name that it knew
	files []known    // by index; nil while the kernel knows none of them
	held  int        // how many of the files it knows
}

// known is what the kernel knows of one node.
type known struct {
	lookups uint64        // how many the kernel will forget; 0: it does not know the node
	good    time.Duration // since started; the kernel may use the name until then; 0: it asks
	asked   uint32        // lookups without an entry timeout that have not led to an open
}

// A node's number for the kernel consists of the inode number of its directory
// and, for a file, of its place there, from 1. Inode numbers are unique and
// never used again, so generations are not needed.
const placeBits = 16

// nodeID returns a node's number for the kernel.
func nodeID(n sysfs.Node) uint64 {
	if f, ok := n.(*sysfs.File); ok {
		return f.Parent().Ino()<<placeBits | uint64(f.Index()+1)
	}
	if n.Parent() == nil {
		return fuse.FUSE_ROOT_ID
	}
	return n.Ino() << placeBits
}

// record returns the record and the place of the node with that number, or nil
// if the kernel does not know the node.
//
// Preconditions: f.mu is held.
func (f *fileSystem) record(id uint64) (i *inode, k *known, place int) {
	ino := id >> placeBits
	if id == fuse.FUSE_ROOT_ID {
		ino, id = f.root.Ino(), 0
	}
	place = int(id & (1<<placeBits - 1))
	i = f.inodes[ino]
	switch {
	case i == nil, place > len(i.files):
		return nil, nil, 0
	case place == 0:
		k = &i.known
	default:
		k = &i.files[place-1]
	}
	if k.lookups == 0 {
		return nil, nil, 0
	}
	return i, k, place
}

// knowledge returns what the kernel knows of n, or nil.
//
// Preconditions: f.mu is held.
func (f *fileSystem) knowledge(n sysfs.Node) *known {
	_, k, _ := f.record(nodeID(n))
	return k
}

// node returns the node of a number that the kernel got from us.
func (f *fileSystem) node(id uint64) sysfs.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, _, place := f.record(id)
	switch {
	case i == nil:
		return nil
	case place > 0:
		return i.node.(*sysfs.Kobject).File(place - 1)
	}
	return i.node
}

// remember counts a lookup of n, unless n is removed. It counts before it
// checks. So either the remover sees that the kernel knows n and notifies it,
// or this lookup fails.
func (f *fileSystem) remember(n sysfs.Node) bool {
	f.count(n)
	if n.Removed() {
		f.Forget(nodeID(n), 1)
		return false
	}
	return true
}

func (f *fileSystem) count(n sysfs.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, isFile := n.(*sysfs.File)
	if isFile {
		n = file.Parent()
	}
	i := f.inodes[n.Ino()]
	if i == nil {
		i = &inode{node: n}
		f.inodes[n.Ino()] = i
	}
	if isFile {
		i.countFile(file)
		return
	}
	if i.lookups > 0 {
		i.again = time.Now()
	}
	i.lookups++
}

// countFile is count for a file in the directory i.
func (i *inode) countFile(file *sysfs.File) {
	if file.Index() >= len(i.files) {
		files := make([]known, file.Parent().Files())
		copy(files, i.files)
		i.files = files
	}
	k := &i.files[file.Index()]
	if k.lookups == 0 {
		i.held++
	}
	k.lookups++
}

func (f *fileSystem) Forget(id, lookups uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, k, place := f.record(id)
	if i == nil || id == fuse.FUSE_ROOT_ID {
		return
	}
	if k.lookups -= min(lookups, k.lookups); k.lookups > 0 {
		return
	}
	*k = known{}
	if place > 0 {
		if i.held--; i.held == 0 {
			i.files = nil
		}
	}
	if i.lookups == 0 && i.held == 0 {
		delete(f.inodes, i.node.Ino())
	}
}

// knows reports whether the kernel may have n in its cache.
func (f *fileSystem) knows(n sysfs.Node) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.knowledge(n) != nil
}

// settles is how long the kernel may take to act on an answer.
const settles = time.Second

// settling reports whether an answer may still make n valid in the kernel's
// cache. n is a directory or a link. The kernel handles the answer to a first
// lookup while it holds the directory's lock, which a notification takes too.
// But it handles the answer to a lookup of a known name at any time.
func (f *fileSystem) settling(n sysfs.Node) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.inodes[n.Ino()]
	return i != nil && time.Since(i.again) < settles
}

// A departure is the removal of a node that the kernel knew.
type departure struct {
	node sysfs.Node
	at   time.Time
}

// leave records that n, a directory or a link, is removed. It reports whether
// the kernel may have n in its cache.
func (f *fileSystem) leave(n sysfs.Node) (known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known = f.inodes[n.Ino()] != nil
	if known {
		f.left = append(f.left, departure{n, time.Now()})
	}
	return known
}

// leftovers returns what the kernel still knows of nodes that left at least a
// second ago, each once. These are files that were in use when their directory
// was forgotten, and nodes that the kernel was not notified of. later reports
// whether other nodes have left since. leftovers searches everything that the
// kernel knows only if there are such nodes.
func (f *fileSystem) leftovers() (nodes []sysfs.Node, later bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	due := make(map[sysfs.Node]bool)
	for len(f.left) > 0 && time.Since(f.left[0].at) >= settles {
		if n := f.left[0].node; f.inodes[n.Ino()] != nil {
			due[n] = true
		}
		f.left = f.left[1:]
	}
	f.left = append([]departure(nil), f.left...) // frees the old array
	if len(due) > 0 {
		for _, i := range f.inodes {
			if within(i.node, due) {
				nodes = i.all(nodes)
			}
		}
	}
	return nodes, len(f.left) > 0
}

// all appends what the kernel knows of i to nodes: i itself, and files in it.
func (i *inode) all(nodes []sysfs.Node) []sysfs.Node {
	if i.lookups > 0 {
		nodes = append(nodes, i.node)
	}
	for index := range i.files {
		if i.files[index].lookups > 0 {
			nodes = append(nodes, i.node.(*sysfs.Kobject).File(index))
		}
	}
	return nodes
}

// within reports whether n or a directory above it is in the set.
func within(n sysfs.Node, set map[sysfs.Node]bool) bool {
	for !set[n] {
		up := n.Parent()
		if up == nil {
			return false
		}
		n = up
	}
	return true
}

// below returns the nodes in the directory n that the kernel may have in its
// cache.
func (f *fileSystem) below(n sysfs.Node) []sysfs.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	var nodes []sysfs.Node
	for _, i := range f.inodes {
		for _, known := range i.all(nil) {
			if p := known.Parent(); p != nil && sysfs.Node(p) == n {
				nodes = append(nodes, known)
			}
		}
	}
	return nodes
}
