package sysfs

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A Kobject is a directory.
type Kobject struct {
	node
	obj   any                     // what the program gave; nil once drained, since a client may keep the node for long
	files atomic.Pointer[fileSet] // A: which files it has; shared; replaced under T
	fixed int                     // I: how many of them Add brought: their numbers follow the directory's

	active atomic.Int64 // A: Shows and Stores of its files under way, plus deactivated
	stores atomic.Int64 // A: Stores under way

	added    []addedFile  // T: of the files that AddFile brought, by index less fixed
	metas    map[int]Meta // T: of files that somebody changed, by index
	children []Node       // T: directories and links in it, by position and name
	dirs     int          // T: directories among them
	shared   *fileSet     // T: that of the directory that was added last
	leaving  int          // T: children that have left and are not drained yet
	draining []*Kobject   // T: what Remove drains, itself included
}

// An addedFile is what AddFile knows of a file, and Add of the directory.
type addedFile struct {
	obj  any
	ino  uint64
	born time.Time
}

// newNode takes as many inode numbers as the node and its files need.
func newNode(t *Tree, parent *Kobject, name string, mode fs.FileMode, files int) node {
	last := t.inodes.Add(1 + uint64(files))
	return node{tree: t, parent: parent, name: name, ino: last - uint64(files), position: position(name), mode: mode, born: time.Now()}
}

// search returns where among the children a name is, or would be.
//
// Preconditions: k.tree.mu is held.
func (k *Kobject) search(name string) (at int, found bool) {
	return slices.BinarySearchFunc(k.children, name, func(n Node, name string) int {
		return compareEntries(n.Position(), n.Name(), name)
	})
}

// childLocked returns the node of that name, nil if there is none.
//
// Preconditions: k.tree.mu is held.
func (k *Kobject) childLocked(name string) Node {
	if i, ok := k.search(name); ok {
		return k.children[i]
	}
	if s := k.files.Load(); !k.gone {
		if i, ok := s.search(name); ok {
			return k.file(s, s.places[i].index)
		}
	}
	return nil
}

// file returns a way to one of the files of a set.
func (k *Kobject) file(s *fileSet, index int) *File { return &File{k, index, s.attrs[index]} }

// drop takes n out of the children.
//
// Preconditions: k.tree.mu is held; n is among them.
func (k *Kobject) drop(n Node) {
	i, _ := k.search(n.Name())
	k.children = slices.Delete(k.children, i, i+1)
	if _, ok := n.(*Kobject); ok {
		k.dirs--
	}
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

// noFiles is what a directory has that is added without attributes.
var noFiles = &fileSet{}

func newKobject(t *Tree, parent *Kobject, name string, obj any, files *fileSet) *Kobject {
	n := len(files.attrs)
	k := &Kobject{node: newNode(t, parent, name, 0o755, n), obj: obj, fixed: n}
	k.files.Store(files)
	return k
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("name %q: %w", name, ErrInvalid)
	}
	return nil
}

// Add makes the directory name with one file for each attribute and publishes
// it. Shows and stores of the files get obj. Directories that are added one after
// another with the same attributes share what is known of these.
//
// It returns ErrExist if the name is taken, ErrGone if k is removed, ErrInvalid
// for a bad name or attribute.
func (k *Kobject) Add(name string, obj any, attrs ...*Attribute) (*Kobject, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("add to %q: %w", k.Path(), err)
	}
	files, err := k.share(attrs)
	if err != nil {
		return nil, fmt.Errorf("add %q: %w", join(k, name), err)
	}
	dir := newKobject(k.tree, k, name, obj, files)
	if err := k.publish(dir); err != nil {
		return nil, err
	}
	return dir, nil
}

// share returns a set of these attributes. If the directory that was added before
// has the same attributes, it returns that directory's set.
func (k *Kobject) share(attrs []*Attribute) (*fileSet, error) {
	if len(attrs) == 0 {
		return noFiles, nil
	}
	k.tree.mu.Lock()
	s := k.shared
	k.tree.mu.Unlock()
	if s != nil && slices.Equal(s.attrs, attrs) {
		return s, nil
	}
	s, err := newFileSet(attrs)
	if err == nil {
		k.tree.mu.Lock()
		k.shared = s
		k.tree.mu.Unlock()
	}
	return s, err
}

// AddFile adds one file, which leaves with the directory. Errors are those of Add.
func (k *Kobject) AddFile(obj any, attr *Attribute) error {
	if err := attr.check(); err != nil {
		return fmt.Errorf("add to %q: %w", k.Path(), err)
	}
	if err := k.addFile(obj, attr); err != nil {
		return fmt.Errorf("add %q: %w", join(k, attr.Name), err)
	}
	k.tree.tellChanged(k)
	return nil
}

func (k *Kobject) addFile(obj any, attr *Attribute) error {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	if err := k.refuse(attr.Name); err != nil {
		return err
	}
	files, err := newFileSet(append(slices.Clone(k.files.Load().attrs), attr))
	if err != nil {
		return err
	}
	k.files.Store(files)
	k.added = append(k.added, addedFile{obj, k.tree.inodes.Add(1), time.Now()})
	k.changed()
	return nil
}

// publish makes n a child, unless the name is taken.
func (k *Kobject) publish(n Node) error {
	if err := k.insert(n); err != nil {
		return fmt.Errorf("add %q: %w", n.Path(), err)
	}
	k.tree.tellChanged(k)
	return nil
}

// insert puts n among the children, where lookups and listings find it.
func (k *Kobject) insert(n Node) error {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	if err := k.refuse(n.Name()); err != nil {
		return err
	}
	i, _ := k.search(n.Name())
	k.children = slices.Insert(k.children, i, n)
	if _, ok := n.(*Kobject); ok {
		k.dirs++
	}
	k.changed()
	return nil
}

// refuse returns why nothing of that name can be added.
//
// Preconditions: k.tree.mu is held.
func (k *Kobject) refuse(name string) error {
	switch {
	case k.gone:
		return fmt.Errorf("directory: %w", ErrGone)
	case k.childLocked(name) != nil:
		return ErrExist
	}
	return nil
}

// SetMeta lets change modify mode, owner and times. It runs under the tree's lock.
func (k *Kobject) SetMeta(change func(*Meta)) {
	k.setMeta(change)
	k.tree.tellChanged(k)
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
	return k.childLocked(name)
}

// File returns the file of that index, also of a removed directory; nil if there
// never was one. It takes no lock.
func (k *Kobject) File(index int) *File {
	s := k.files.Load()
	if index < 0 || index >= len(s.attrs) {
		return nil
	}
	return k.file(s, index)
}

// Files returns how many files the directory has, or had. It takes no lock.
func (k *Kobject) Files() int { return len(k.files.Load().attrs) }

// Children returns what is in the directory, oldest first. A removed directory is empty.
func (k *Kobject) Children() []Node {
	nodes := k.from(0)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Ino(), b.Ino()) })
	return nodes
}

// Links returns what stat shows as the number of links: two, and one for each
// directory inside.
func (k *Kobject) Links() int {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	return 2 + k.dirs
}
