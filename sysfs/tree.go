package sysfs

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
)

// Protection of fields:
//
//	I  set before the node is published, then constant
//	T  Tree.mu
//	A  atomic

// A Tree is a hierarchy of kobjects. Several servers may serve one.
type Tree struct {
	root    *Kobject      // I
	noDrain bool          // I: fault.NoDrain
	inodes  atomic.Uint64 // A: numbers assigned so far; never used again

	mu        lockdep.Mutex
	access    Access            // T
	drained   *lockdep.Cond     // over mu; an active count fell to zero, or a removal ended
	calls     map[uintptr]*call // T: the call that each goroutine is in, innermost first
	observers []*observer       // T

	drains, waited, storesAtDrain, outlived atomic.Uint64 // A
}

// A call is one running Show or Store.
type call struct {
	file  *File
	outer *call // of the same goroutine
}

// An observer has one of these functions.
type observer struct {
	removed func(Removal)
	changed func(Node)
}

// A Removal tells an observer which node has left the tree. The files below
// Node left with it.
type Removal struct {
	Parent *Kobject
	Node   Node
}

// TreeStats counts removals since the tree was made.
type TreeStats struct {
	Drains        uint64 // removals of kobjects
	Waited        uint64 // drains that had to wait for a Show or a Store
	StoresAtDrain uint64 // Stores that ran when a drain began
	Outlived      uint64 // active references left after a drain: always 0
}

// NewTree returns a tree with an empty root. Its files belong to the user and
// the group of this process.
func NewTree() *Tree {
	t := &Tree{
		access: Access{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Umask: OwnModes},
		calls:  make(map[uintptr]*call),

		noDrain: fault.Injected() == fault.NoDrain,
	}
	t.mu.Init(lockdep.Tree)
	t.drained = lockdep.NewCond(&t.mu)
	t.root = newKobject(t, nil, "", nil, noFiles)
	return t
}

// Access says who owns the nodes and who else may use them. It applies to old
// and new nodes, except for what chmod and chown have changed.
type Access struct {
	UID, GID uint32

	// If Umask is not OwnModes, group and others get the owner's
	// permissions of a file, except these bits: with 027 a file of mode
	// 0600 has mode 0640.
	Umask fs.FileMode
}

// OwnModes as Access.Umask keeps the modes that the program gave to files.
const OwnModes = ^fs.FileMode(0)

// SetAccess changes the access. At first all nodes belong to the user and the
// group of this process, and files have their own modes. change runs under the
// tree's lock.
func (t *Tree) SetAccess(change func(*Access)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.access)
}

// mode returns the permissions of a node whose own mode is own.
func (a Access) mode(own fs.FileMode) fs.FileMode {
	switch {
	case a.Umask == OwnModes, own == linkMode:
		return own
	case own&0o111 == 0: // a file
		owner := own & 0o700
		own |= owner>>3 | owner>>6
	}
	return own &^ (a.Umask & 0o777)
}

// Root returns the directory at the top. It cannot be removed.
func (t *Tree) Root() *Kobject { return t.root }

// Stats returns the counters.
func (t *Tree) Stats() TreeStats {
	return TreeStats{t.drains.Load(), t.waited.Load(), t.storesAtDrain.Load(), t.outlived.Load()}
}

// OnRemove calls f after every removal of a kobject or a link, until cancel is
// called. The goroutine that removes calls f after the drain, with no lock
// held, and waits for it.
func (t *Tree) OnRemove(f func(Removal)) (cancel func()) { return t.observe(&observer{removed: f}) }

// OnChange calls f whenever the attributes of a node change: of a directory
// when an entry comes or goes, of any node after SetMeta. The goroutine that
// makes the change calls f, with no lock held, and waits for it. This ends when
// cancel is called.
func (t *Tree) OnChange(f func(Node)) (cancel func()) { return t.observe(&observer{changed: f}) }

func (t *Tree) observe(o *observer) (cancel func()) {
	t.mu.Lock()
	t.observers = append(slices.Clone(t.observers), o)
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.observers = slices.DeleteFunc(slices.Clone(t.observers), func(x *observer) bool { return x == o })
	}
}

func (t *Tree) watchers() []*observer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.observers
}

func (t *Tree) tell(r Removal) {
	t.tellChanged(r.Parent)
	for _, o := range t.watchers() {
		if o.removed != nil {
			o.removed(r)
		}
	}
}

func (t *Tree) tellChanged(n Node) {
	for _, o := range t.watchers() {
		if o.changed != nil {
			o.changed(n)
		}
	}
}

// enter records that this goroutine runs a function of f, until leave is
// called.
func (t *Tree) enter(f *File) (leave func()) {
	g := lockdep.Goroutine()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &call{f, t.calls[g]}
	t.calls[g] = c
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.calls[g] = c.outer; c.outer == nil {
			delete(t.calls, g)
		}
	}
}

// refuseSelfWait panics if this goroutine is in a Show or a Store of the
// subtree, because a drain would wait for it.
func (t *Tree) refuseSelfWait(k *Kobject) {
	g := lockdep.Goroutine()
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := t.calls[g]; c != nil; c = c.outer {
		for dir := c.file.dir; dir != nil; dir = dir.parent {
			if dir == k {
				panic(fmt.Sprintf("sysfs: Remove of %q inside the show or store of %q would wait for itself", k.Path(), c.file.Path()))
			}
		}
	}
}

// A Node is a *Kobject, a *File or a *Link.
type Node interface {
	Name() string
	Path() string     // from the root, which is "/"; unchanged by removal
	Ino() uint64      // inode number: 1 for the root; never used again
	Position() uint64 // place in listings of the directory; a hash of the name
	Parent() *Kobject // nil for the root
	Removed() bool    // whether it has left the tree
	Meta() Meta       // what chmod, chown and utimes set
	SetMeta(func(*Meta))
}

var _ = []Node{(*Kobject)(nil), (*File)(nil), (*Link)(nil)}

// Meta is the part of a node that chmod, chown and utimes change. It lives as
// long as the node; a file lives as long as its directory.
type Meta struct {
	Mode                fs.FileMode // the low twelve bits, as in chmod(2)
	UID, GID            uint32
	Atime, Mtime, Ctime time.Time
}

// node is the common part of directories and links.
type node struct {
	tree     *Tree       // I
	parent   *Kobject    // I
	name     string      // I
	ino      uint64      // I
	position uint64      // I
	mode     fs.FileMode // I: unless meta or the tree's access says otherwise
	gone     bool        // T: out of the tree
	quiet    bool        // T: drained as well
	born     time.Time   // I
	meta     *Meta       // T: nil until changed
}

// Name returns the last element of the path.
func (n *node) Name() string { return n.name }

// Ino returns the inode number.
func (n *node) Ino() uint64 { return n.ino }

// Position returns the node's place in listings of its directory: a hash of its
// name. See List.
func (n *node) Position() uint64 { return n.position }

// Parent returns the directory that contains or contained the node. It is nil
// for the root.
func (n *node) Parent() *Kobject { return n.parent }

// Path returns the path from the root.
func (n *node) Path() string {
	if n.parent == nil {
		return "/"
	}
	return join(n.parent, n.name)
}

// join returns the path of a name in a directory.
func join(dir *Kobject, name string) string {
	if dir.parent == nil {
		return "/" + name
	}
	return dir.Path() + "/" + name
}

// Removed reports whether the node has left the tree.
func (n *node) Removed() bool {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	return n.gone
}

// Meta returns mode, owner and times.
func (n *node) Meta() Meta {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	return n.metaLocked()
}

func (n *node) setMeta(change func(*Meta)) {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	m := n.metaLocked()
	change(&m)
	n.meta = &m
}

// metaLocked is Meta without the lock.
//
// Preconditions: n.tree.mu is held.
func (n *node) metaLocked() Meta {
	if n.meta != nil {
		return *n.meta
	}
	return n.tree.newMeta(n.mode, n.born)
}

// newMeta returns the metadata of a node whose metadata was never changed.
//
// Preconditions: t.mu is held.
func (t *Tree) newMeta(mode fs.FileMode, born time.Time) Meta {
	return Meta{t.access.mode(mode), t.access.UID, t.access.GID, born, born, born}
}
