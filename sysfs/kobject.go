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
	obj   any                     // of Add; nil once drained: clients may keep k for long
	files atomic.Pointer[fileSet] // A: which files it has; shared; replaced under T
	fixed int                     // I: files that Add made; their numbers follow k's

	active atomic.Int64 // A: current Shows and Stores of its files, plus deactivated
	stores atomic.Int64 // A: current Stores

	added    []addedFile  // T: files of AddFile, by index - fixed
	metas    map[int]Meta // T: of files whose metadata was changed, by index
	children []Node       // T: directories and links in it, by position and name
	dirs     int          // T: how many children are directories
	shared   *fileSet     // T: files of the directory that was added last
	leaving  int          // T: children that have left and are not drained yet
	draining []*Kobject   // T: what Remove drains, including k
}

// An addedFile is what the directory stores for one file of AddFile.
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

// search returns where among the children a name is, or where it would be.
//
// Preconditions: k.tree.mu is held.
func (k *Kobject) search(name string) (at int, found bool) {
	return slices.BinarySearchFunc(k.children, name, func(n Node, name string) int {
		return compareEntries(n.Position(), n.Name(), name)
	})
}

// childLocked returns the node of that name, or nil if there is none.
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

// file returns a File for one of the files of a set.
func (k *Kobject) file(s *fileSet, index int) *File { return &File{k, index, s.attrs[index]} }

// drop removes n from the children.
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

// changed updates the times of a directory whose metadata was set by SetMeta.
// The times of other directories do not change, as in sysfs.
func (k *Kobject) changed() {
	if k.meta != nil {
		k.meta.Mtime = time.Now()
		k.meta.Ctime = k.meta.Mtime
	}
}

// noFiles is the file set of a directory that is added without attributes.
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

// Add makes the directory name with one file for each attribute, and publishes
// it. Show and Store of the files get obj. If directories with the same
// attributes are added one after another, they share the list of files.
//
// Errors wrap ErrExist if the name is taken, ErrGone if k is removed, and
// ErrInvalid for a bad name or attribute.
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

// share returns a set of these attributes. If the directory that was added last
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

// AddFile adds one file to k, which leaves with k. Show and Store of the file
// get obj. It returns the same errors as Add.
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

// insert puts n among the children. From then on lookups and listings find n.
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

// refuse returns why nothing of that name can be added, or nil.
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

// SetMeta lets change modify mode, owner and times. change runs under the
// tree's lock.
func (k *Kobject) SetMeta(change func(*Meta)) {
	k.setMeta(change)
	k.tree.tellChanged(k)
}

// Object returns the object that Add got, or nil after the removal.
func (k *Kobject) Object() any {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	return k.obj
}

// Child returns the node of that name, or nil if there is none.
func (k *Kobject) Child(name string) Node {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	return k.childLocked(name)
}

// File returns the file of that index, also of a removed directory. It returns
// nil if there never was one. It takes no lock.
func (k *Kobject) File(index int) *File {
	s := k.files.Load()
	if index < 0 || index >= len(s.attrs) {
		return nil
	}
	return k.file(s, index)
}

// Files returns how many files the directory has, or had. It takes no lock.
func (k *Kobject) Files() int { return len(k.files.Load().attrs) }

// Children returns the nodes in the directory, oldest first. A removed
// directory is empty.
func (k *Kobject) Children() []Node {
	nodes := k.from(0)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Ino(), b.Ino()) })
	return nodes
}

// Links returns the number of links that stat shows: two, and one for each
// directory inside.
func (k *Kobject) Links() int {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	return 2 + k.dirs
}
