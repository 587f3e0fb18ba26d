package stress

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"slabfs/alloc"
	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// A model is an allocator with a tree of files and no file system. Its parties
// meet at fixed moments of a clock that only moves when all of them wait, so what
// happens happens every time. Each test asks for the right outcome of the build that
// it is in: of the protected one, or of one with a fault tag.
type model struct {
	t     *testing.T
	a     *alloc.Allocator
	tree  *sysfs.Tree
	attr  *sysfs.Attribute
	inode lockdep.RWSem // the kernel's lock of the one file: a write(2) holds it shared

	ctx    context.Context // of every store and publish
	cancel func()
}

const tick = time.Microsecond

func newModel(t *testing.T, merge bool) *model {
	a, err := alloc.New(alloc.Options{Merge: merge})
	if err != nil {
		t.Fatal(err)
	}
	m := &model{t: t, a: a, tree: sysfs.NewTree()}
	m.inode.Init(inodeClass)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.attr = &sysfs.Attribute{Name: "cpu_partial", Mode: 0o200, Store: m.store}
	m.tree.OnRemove(func(sysfs.Removal) {
		if fault.NotifyUnderLocks { // as NotifyDelete does; NotifyEntry has no use for the file's lock
			m.inode.Lock()
			m.inode.Unlock()
		}
	})
	return m
}

// store takes three ticks to begin with what it is for.
func (m *model) store(ctx context.Context, obj any, data []byte) error {
	n, err := strconv.ParseUint(string(data), 10, 32)
	if err != nil {
		return err
	}
	time.Sleep(3 * tick)
	return obj.(*alloc.Cache).SetCPUPartialContext(ctx, uint(n))
}

// write is what a client does. It needs the tree's file, as a descriptor has it.
func (m *model) write(f *sysfs.File) error {
	m.inode.RLock()
	defer m.inode.RUnlock()
	_, err := f.Store(m.ctx, []byte("30"))
	return err
}

// Publish makes a directory with one file, or a link to that which the cache
// shares. A cache whose name says so is tuned first.
func (m *model) Publish(c *alloc.Cache, name string) error {
	if name == "tuned" {
		time.Sleep(2 * tick)
		_ = c.SetCPUPartialContext(m.ctx, 30) // interrupted, if all is not well
	}
	if name != c.ID() {
		_, err := m.tree.Root().Link(name, m.dir(c.ID()))
		return err
	}
	_, err := m.tree.Root().Add(name, c, m.attr)
	return err
}

func (m *model) Unlink(c *alloc.Cache, name string) {
	if l, ok := m.tree.Root().Child(name).(*sysfs.Link); ok {
		l.Remove()
	} else {
		m.dir(name).Remove()
	}
}

func (m *model) dir(name string) *sysfs.Kobject { return m.tree.Root().Child(name).(*sysfs.Kobject) }

// plug is the hotplug writer, which comes at a tick.
func (m *model) plug(at int) {
	time.Sleep(time.Duration(at) * tick)
	m.a.Hotplug().Lock()
	m.a.Hotplug().Unlock()
}

// deadlock reports whether the parties wait for each other for ever. If they do
// it interrupts the store or the publish, which frees the others.
func (m *model) deadlock(parties ...func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ends := make(chan struct{})
		for _, p := range parties {
			go func() { p(); ends <- struct{}{} }()
		}
		for range parties {
			<-ends
		}
	}()
	select {
	case <-done:
		return false
	case <-time.After(time.Hour):
		m.cancel()
		<-done
		return true
	}
}

// close empties the allocator, which must be possible whatever has happened.
func (m *model) close() {
	m.cancel()
	if err := m.a.Close(); err != nil {
		m.t.Error(err)
	}
}

func forHotplug(t *testing.T, f func(t *testing.T, m *model, hotplug bool)) {
	for _, hotplug := range []bool{true, false} {
		for _, merge := range []bool{true, false} {
			t.Run(fmt.Sprintf("hotplug=%v,merge=%v", hotplug, merge), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newModel(t, merge)
					defer m.close()
					m.a.Attach(m)
					f(t, m, hotplug)
				})
			})
		}
	}
}

// A store that has its active reference wants the hotplug lock for reading; a
// destroy that holds it for reading wants the reference gone; in between a writer
// of the lock has come. Without the writer the wrong order looks right.
func TestThreeParties(t *testing.T) {
	forHotplug(t, func(t *testing.T, m *model, hotplug bool) {
		c, err := m.a.NewCache("model", 64, alloc.CacheOptions{})
		if err != nil {
			t.Fatal(err)
		}
		file := m.dir(c.ID()).Child("cpu_partial").(*sysfs.File)
		var werr error
		parties := []func(){
			func() { werr = m.write(file) },
			func() {
				time.Sleep(tick)
				if err := c.Destroy(); err != nil {
					t.Error(err)
				}
			},
		}
		if hotplug {
			parties = append(parties, func() { m.plug(2) })
		}
		got, want := m.deadlock(parties...), hotplug && (fault.UnlinkUnderLocks || fault.NotifyUnderLocks)
		if got != want {
			t.Errorf("deadlock: %v; want %v", got, want)
		}
		if !want && werr != nil {
			t.Errorf("the store that was under way: %v; want success", werr)
		}
		if want && !errors.Is(werr, context.Canceled) {
			t.Errorf("the store that was interrupted: %v; want %v", werr, context.Canceled)
		}
		if err := m.write(file); !errors.Is(err, sysfs.ErrGone) && m.ctx.Err() == nil {
			t.Errorf("a store after the destroy: %v; want %v", err, sysfs.ErrGone)
		}
		if got, want := m.a.Misuse() > 0, fault.NoDrain || fault.FreeBeforeDrain; got != want {
			t.Errorf("the store saw a released cache: %v; want %v", got, want)
		}
	})
}

// A publish may take the allocator's locks, since it is called with none held.
func TestPublish(t *testing.T) {
	forHotplug(t, func(t *testing.T, m *model, hotplug bool) {
		parties := []func(){func() {
			if _, err := m.a.NewCache("tuned", 64, alloc.CacheOptions{}); err != nil {
				t.Error(err)
			}
		}}
		if hotplug {
			parties = append(parties, func() { m.plug(1) })
		}
		if got, want := m.deadlock(parties...), hotplug && fault.PublishUnderSlabMutex; got != want {
			t.Errorf("deadlock: %v; want %v", got, want)
		}
	})
}
