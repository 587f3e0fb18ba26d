package sysfs

import (
	"cmp"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Kobject is a directory.
type Kobject struct {
	node
	children map[string]Node // T
	order    []Node          // T: the children, by position
	leaving  int             // T: children that have left and are not drained yet
	draining []Node          // T: what Remove drains, itself included
}

// A Link is a symbolic link to a kobject. It stays when its target goes.
type Link struct {
	node
	target string // I
}

const linkMode = 0o777 // which nobody looks at

func newNode(t *Tree, parent *Kobject, name string, obj any, mode fs.FileMode) node {
	return node{tree: t, parent: parent, name: name, ino: t.inodes.Add(1), position: position(name), mode: mode, born: time.Now(), obj: obj}
}

// position is a hash (FNV-1a) of 62 bits, so that it is a file offset, and at
// least 2: "." and ".." come first. Two names of one directory that share one are
// not to be expected.
func position(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return 2 + h>>2
}

func comparePositions(n Node, position uint64) int { return cmp.Compare(n.Position(), position) }

// insert puts n among the children, where lookups and listings find it.
//
// Preconditions: k.tree.mu is held, or k is not published; the name is free.
func (k *Kobject) insert(n Node) {
	k.children[n.Name()] = n
	i, _ := slices.BinarySearchFunc(k.order, n.Position(), comparePositions)
	k.order = slices.Insert(k.order, i, n)
	k.changed()
}

// drop takes n out of the children.
//
// Preconditions: k.tree.mu is held; n is among them.
func (k *Kobject) drop(n Node) {
	delete(k.children, n.Name())
	i := slices.Index(k.order, n)
	k.order = slices.Delete(k.order, i, i+1)
	k.changed()
}

// changed moves the times of a directory whose metadata somebody has set; of
// others they do not move, as in sysfs.
func (k *Kobject) changed() {
	if k.meta != nil {
		k.meta.Mtime = time.Now()
		k.meta.Ctime = k.meta.Mtime
	}
}

func newKobject(t *Tree, parent *Kobject, name string, obj any) *Kobject {
	return &Kobject{node: newNode(t, parent, name, obj, 0o755), children: make(map[string]Node)}
}

func newFile(dir *Kobject, obj any, a *Attribute) (*File, error) {
	if err := checkName(a.Name); err != nil {
		return nil, err
	}
	if a.Mode&^0o777 != 0 || a.Mode&0o444 != 0 && a.Show == nil || a.Mode&0o222 != 0 && a.Store == nil {
		return nil, fmt.Errorf("attribute %q: mode %#o asks for a function that is not there: %w", a.Name, uint32(a.Mode), ErrInvalid)
	}
	return &File{node: newNode(dir.tree, dir, a.Name, obj, a.Mode), attr: a}, nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("name %q: %w", name, ErrInvalid)
	}
	return nil
}

// Add makes the directory name with one file for each attribute and publishes
// it. Shows and stores of the files get obj.
//
// It returns ErrExist if the name is taken, ErrGone if k is removed, ErrInvalid
// for a bad name or attribute.
func (k *Kobject) Add(name string, obj any, attrs ...*Attribute) (*Kobject, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("add to %q: %w", k.Path(), err)
	}
	dir := newKobject(k.tree, k, name, obj)
	for _, a := range attrs {
		f, err := newFile(dir, obj, a)
		if err == nil && dir.children[a.Name] != nil {
			err = fmt.Errorf("attribute %q: %w", a.Name, ErrExist)
		}
		if err != nil {
			return nil, fmt.Errorf("add %q: %w", dir.Path(), err)
		}
		dir.insert(f)
	}
	if err := k.publish(dir); err != nil {
		return nil, err
	}
	return dir, nil
}

// AddFile adds one file, which leaves with the directory. Errors are those of Add.
func (k *Kobject) AddFile(obj any, attr *Attribute) error {
	f, err := newFile(k, obj, attr)
	if err != nil {
		return fmt.Errorf("add to %q: %w", k.Path(), err)
	}
	return k.publish(f)
}

// Link adds a symbolic link to target, which must be in the same tree. Errors
// are those of Add; ErrGone also if target is removed.
func (k *Kobject) Link(name string, target *Kobject) (*Link, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("link in %q: %w", k.Path(), err)
	}
	rel, err := filepath.Rel(k.Path(), target.Path())
	if err != nil || target.tree != k.tree {
		return nil, fmt.Errorf("link %q in %q: target of another tree: %w", name, k.Path(), ErrInvalid)
	}
	if target.Removed() {
		return nil, fmt.Errorf("link %q in %q: target %q: %w", name, k.Path(), target.Path(), ErrGone)
	}
	l := &Link{node: newNode(k.tree, k, name, nil, linkMode), target: rel}
	if err := k.publish(l); err != nil {
		return nil, err
	}
	return l, nil
}

// publish makes n a child, unless the name is taken.
func (k *Kobject) publish(n Node) error {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	switch {
	case k.gone:
		return fmt.Errorf("add %q: directory: %w", n.Path(), ErrGone)
	case k.children[n.Name()] != nil:
		return fmt.Errorf("add %q: %w", n.Path(), ErrExist)
	}
	k.insert(n)
	return nil
}

// Object returns what Add got, nil after the removal.
func (k *Kobject) Object() any {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	return k.obj
}

// Child returns the node of that name, nil if there is none.
func (k *Kobject) Child(name string) Node {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	return k.children[name]
}

// Children returns what is in the directory, oldest first. A removed directory is empty.
func (k *Kobject) Children() []Node {
	nodes := k.ChildrenFrom(0)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Ino(), b.Ino()) })
	return nodes
}

// ChildrenFrom returns the children at this position and behind it, in the
// order of positions.
func (k *Kobject) ChildrenFrom(position uint64) []Node {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	i, _ := slices.BinarySearchFunc(k.order, position, comparePositions)
	return slices.Clone(k.order[i:])
}

// Links returns what stat shows as the number of links: two, and one for each
// directory inside.
func (k *Kobject) Links() int {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	n := 2
	for _, c := range k.children {
		if _, ok := c.(*Kobject); ok {
			n++
		}
	}
	return n
}

// Remove takes the directory and all below out of the tree, waits until no
// Show and no Store of it runs, and tells the observers. Any number of
// goroutines may remove one kobject: each returns after the drain.
//
// Preconditions: the caller holds no lock that a Show or a Store of the subtree
// takes. It is not in one of them, which panics; nor is k the root.
func (k *Kobject) Remove() {
	t := k.tree
	if k.parent == nil {
		panic("sysfs: Remove of the root")
	}
	t.refuseSelfWait(k)
	if k.removeAndDrain() {
		t.tell(Removal{k.parent, k})
	}
}

// removeAndDrain is Remove without the observers. It reports whether this call
// took the directory out.
func (k *Kobject) removeAndDrain() bool {
	t := k.tree
	t.mu.Lock()
	first := !k.gone
	if first {
		k.draining = k.takeOut()
	}
	nodes := k.draining
	t.mu.Unlock()
	drains(nodes)
	t.mu.Lock()
	defer t.mu.Unlock()
	if first {
		k.drain(nodes)
		k.draining = nil
	}
	for !k.quiet {
		t.drained.Wait()
	}
	return first
}

// takeOut ends lookups of k and calls of its files, and returns what is to be drained.
//
// Preconditions: k.tree.mu is held; k is not gone.
func (k *Kobject) takeOut() []Node {
	k.parent.drop(k)
	k.parent.leaving++
	k.tree.drains.Add(1)
	return k.deactivate(nil)
}

// drain waits until none of the nodes that takeOut returned is in use.
//
// Preconditions: k.tree.mu is held.
func (k *Kobject) drain(nodes []Node) {
	t := k.tree
	if !t.noDrain && slices.ContainsFunc(nodes, busy) {
		t.waited.Add(1)
		for slices.ContainsFunc(nodes, busy) {
			t.drained.Wait() // without the lock
		}
	}
	for _, n := range nodes {
		b := n.base()
		b.quiet = true
		if !t.noDrain {
			b.obj = nil
		}
	}
	k.parent.leaving--
	t.drained.Broadcast()
}

// deactivate marks the subtree as gone, so that no call of it can begin, and
// appends its nodes to nodes.
//
// Preconditions: k.tree.mu is held; k is not gone.
func (k *Kobject) deactivate(nodes []Node) []Node {
	nodes = append(slices.Grow(nodes, 1+len(k.order)), k)
	k.gone = true
	for _, c := range k.order {
		switch c := c.(type) {
		case *Kobject:
			nodes = c.deactivate(nodes)
			continue
		case *File:
			k.tree.storesAtDrain.Add(uint64(c.stores.Load()))
			c.active.Add(deactivated)
		}
		c.base().gone = true
		nodes = append(nodes, c)
	}
	k.children, k.order = nil, nil
	return nodes
}

// busy reports whether a drain has to wait for n.
//
// Preconditions: the tree's lock is held; n is deactivated.
func busy(n Node) bool {
	switch n := n.(type) {
	case *File:
		return n.active.Load() != deactivated
	case *Kobject:
		return n.leaving > 0
	}
	return false
}

// Target returns what readlink shows: the way from the link's directory.
func (l *Link) Target() string { return l.target }

// Remove takes the link out of the tree and tells the observers. It may be
// called again.
func (l *Link) Remove() {
	t := l.tree
	t.mu.Lock()
	was := l.gone
	if !was {
		l.parent.drop(l)
		l.gone = true
	}
	t.mu.Unlock()
	if !was {
		t.tell(Removal{l.parent, l})
	}
}
