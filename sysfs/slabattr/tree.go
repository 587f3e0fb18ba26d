package slabattr

import (
	"errors"
	"fmt"
	"syscall"

	"slabfs/alloc"
	"slabfs/sysfs"
	"slabfs/sysfs/fusefs"
)

// Version is the version of slabfs, as sys/module/slabfs/version shows it.
const Version = "0.1.0"

// A Tree is the files of one allocator.
type Tree struct {
	tree   *sysfs.Tree
	slab   *sysfs.Kobject // sys/kernel/slab
	module *sysfs.Kobject // sys/module/slabfs
	detach func()
}

// New makes the files of an allocator and attaches them to it: each of its
// caches has a directory from now on until Detach.
func New(a *alloc.Allocator) *Tree {
	t := &Tree{tree: sysfs.NewTree()}
	root := t.tree.Root()
	sys := mustAdd(root, "sys", nil)
	t.slab = mustAdd(mustAdd(sys, "kernel", nil), "slab", nil)
	cpus := mustAdd(mustAdd(mustAdd(sys, "devices", nil), "system", nil), "cpu", a, cpuAttrs...)
	for n := range a.Hotplug().Possible().All() {
		mustAdd(cpus, fmt.Sprint("cpu", n), oneCPU{a, n}, onlineAttr)
	}
	t.module = mustAdd(mustAdd(sys, "module", nil), "slabfs", a, moduleAttrs...)
	mustAdd(t.module, "parameters", a, parameterAttrs...)
	mustAdd(root, "proc", a, procAttrs()...)
	t.detach = a.Attach(publisher{t})
	return t
}

// mustAdd adds a directory to a tree that nobody else has seen.
func mustAdd(k *sysfs.Kobject, name string, obj any, attrs ...*sysfs.Attribute) *sysfs.Kobject {
	dir, err := k.Add(name, obj, attrs...)
	if err != nil {
		panic(err)
	}
	return dir
}

// Mount serves the files of an allocator on a directory until the server is
// unmounted. It makes the directory if it is missing, and then removes it again.
// Where there is no /dev/fuse it returns an error that says what to do, and the
// allocator works on.
func Mount(dir string, a *alloc.Allocator, o fusefs.Options) (*fusefs.Server, error) {
	t := New(a)
	srv, err := fusefs.Mount(dir, t.tree, o)
	if err != nil {
		t.Detach()
		return nil, err
	}
	srv.OnEnd(t.Detach)
	return srv, nil
}

// Sysfs returns the tree, for fusefs.Mount.
func (t *Tree) Sysfs() *sysfs.Tree { return t.tree }

// Module returns sys/module/slabfs, where a program may add directories of its own.
func (t *Tree) Module() *sysfs.Kobject { return t.module }

// Detach ends what New began: caches no longer come and go here. It waits for
// those that do so now, and may be called again.
func (t *Tree) Detach() { t.detach() }

// publisher is what the allocator sees of a Tree.
type publisher struct{ t *Tree }

// Publish makes a cache's directory, with all of its files at once, or the link of a
// name to the directory that it shares.
func (p publisher) Publish(c *alloc.Cache, name string) error {
	if name == c.ID() {
		_, err := p.t.slab.Add(name, c, cacheAttrs...)
		return err
	}
	dir, ok := p.t.slab.Child(c.ID()).(*sysfs.Kobject)
	if !ok {
		return fmt.Errorf("link %q: its directory %q: %w", name, c.ID(), sysfs.ErrGone)
	}
	_, err := p.t.slab.Link(name, dir)
	return err
}

// Unlink removes it, and returns when none of the directory's files is in use.
func (p publisher) Unlink(_ *alloc.Cache, name string) {
	switch n := p.t.slab.Child(name).(type) {
	case *sysfs.Kobject:
		n.Remove()
	case *sysfs.Link:
		n.Remove()
	}
}

// A numbered error has the number that a shell user gets.
type numbered struct {
	error
	errno syscall.Errno
}

func (n numbered) Unwrap() []error { return []error{n.error, n.errno} }

// numbers has the number of each error of package alloc.
var numbers = []struct {
	is    error
	errno syscall.Errno
}{
	{alloc.ErrExist, syscall.EEXIST},
	{alloc.ErrNotExist, syscall.ENOENT},
	{alloc.ErrPermission, syscall.EPERM},
	{alloc.ErrBusy, syscall.EBUSY},
	{alloc.ErrNoMemory, syscall.ENOMEM},
	{alloc.ErrInvalid, syscall.EINVAL},
	{alloc.ErrNotBuilt, syscall.EINVAL},
	{alloc.ErrClosed, syscall.ENODEV},
	{alloc.ErrCallback, syscall.EDEADLK},
}

// errno adds its number to an error of the allocator.
func errno(err error) error {
	for _, e := range numbers {
		if errors.Is(err, e.is) {
			return numbered{err, e.errno}
		}
	}
	return err
}
