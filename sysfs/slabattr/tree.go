package slabattr

import (
	"errors"
	"fmt"
	"syscall"

	"slabfs/alloc"
	"slabfs/sysfs"
	"slabfs/sysfs/fusefs"
)

// Version is the version of slabfs, shown in sys/module/slabfs/version.
const Version = "0.1.0"

// A Tree holds the files of one allocator.
type Tree struct {
	tree   *sysfs.Tree
	slab   *sysfs.Kobject // sys/kernel/slab
	module *sysfs.Kobject // sys/module/slabfs
	detach func()
}

// New makes the files of an allocator and attaches them to it. Until Detach,
// each of the allocator's caches has a directory or a link.
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

// mustAdd adds a directory to a tree that no other goroutine has seen.
func mustAdd(k *sysfs.Kobject, name string, obj any, attrs ...*sysfs.Attribute) *sysfs.Kobject {
	dir, err := k.Add(name, obj, attrs...)
	if err != nil {
		panic(err)
	}
	return dir
}

// Mount serves the files of an allocator on a directory until the server is
// unmounted. If the directory is missing, Mount makes it and removes it again
// at the end. If there is no /dev/fuse, Mount returns an error that says what
// to do. The allocator works without the mount.
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

// Module returns sys/module/slabfs. A program may add directories of its own
// there.
func (t *Tree) Module() *sysfs.Kobject { return t.module }

// Detach ends what New began: no caches are added or removed any more. It waits
// for additions and removals that are under way. It may be called again.
func (t *Tree) Detach() { t.detach() }

// publisher is the Tree as the allocator sees it.
type publisher struct{ t *Tree }

// Publish makes a cache's directory, with all of its files at once. If the
// cache shares the directory of another name, Publish makes a link to it.
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

// Unlink removes what Publish made. It returns when none of the directory's
// files is in use.
func (p publisher) Unlink(_ *alloc.Cache, name string) {
	switch n := p.t.slab.Child(name).(type) {
	case *sysfs.Kobject:
		n.Remove()
	case *sysfs.Link:
		n.Remove()
	}
}

// A numbered error carries the errno that a client gets.
type numbered struct {
	error
	errno syscall.Errno
}

func (n numbered) Unwrap() []error { return []error{n.error, n.errno} }

// numbers maps the errors of package alloc to errnos.
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

// errno adds the errno to an error of the allocator.
func errno(err error) error {
	for _, e := range numbers {
		if errors.Is(err, e.is) {
			return numbered{err, e.errno}
		}
	}
	return err
}
