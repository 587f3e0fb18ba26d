package stress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
// happens happens every time: with each switch of package fault what it is for, and
// nothing without one.
type model struct {
	t     *testing.T
	a     *alloc.Allocator
	tree  *sysfs.Tree
	attr  *sysfs.Attribute
	inode lockdep.RWSem // the kernel's lock of the one file: a write(2) holds it shared

	work   time.Duration   // of each store, before it begins with what it is for
	lag    time.Duration   // before each unlink
	ctx    context.Context // of every store and publish
	cancel func()
}

const tick = time.Microsecond

func newModel(t *testing.T, merge bool) *model {
	a, err := alloc.New(alloc.Options{Merge: merge, Logger: slog.New(slog.DiscardHandler)}) // what it says is counted too
	if err != nil {
		t.Fatal(err)
	}
	m := &model{t: t, a: a, tree: sysfs.NewTree(), work: 3 * tick}
	m.inode.Init(inodeClass)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.attr = &sysfs.Attribute{Name: "cpu_partial", Mode: 0o200, Store: m.store}
	m.tree.OnRemove(func(sysfs.Removal) {
		if fault.Injected() == fault.NotifyUnderLocks { // as NotifyDelete does; NotifyEntry has no use for the file's lock
			m.inode.Lock()
			m.inode.Unlock()
		}
	})
	return m
}

func (m *model) store(ctx context.Context, obj any, data []byte) error {
	n, err := strconv.ParseUint(string(data), 10, 32)
	if err != nil {
		return err
	}
	time.Sleep(m.work)
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
	time.Sleep(m.lag)
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
	if n := m.a.MemoryUsed(); n != 0 {
		m.t.Errorf("%d bytes are in use by a closed allocator", n)
	}
}

// Forget is the first half of Unlink, for fault.NotifyUnderLocks. What it returns is the second.
func (m *model) Forget(c *alloc.Cache, name string) (drain func()) {
	if name != c.ID() {
		m.Unlink(c, name)
		return func() {}
	}
	return fault.Forget(m.dir(name))
}

// cache makes a cache that the test destroys.
func (m *model) cache(name string, size int, flags alloc.Flags) *alloc.Cache {
	c, err := m.a.NewCache(name, size, alloc.CacheOptions{Flags: flags})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// file is what a store writes to.
func (m *model) file(c *alloc.Cache) *sysfs.File {
	return m.dir(c.ID()).Child("cpu_partial").(*sysfs.File)
}

// destroyer destroys a cache at a tick.
func (m *model) destroyer(at int, c *alloc.Cache) func() {
	return func() {
		time.Sleep(time.Duration(at) * tick)
		if err := c.Destroy(); err != nil {
			m.t.Error(err)
		}
	}
}

// injecting runs f with a switch on, "" for none.
func injecting(t *testing.T, name string, f func()) {
	if name == "" {
		f()
		return
	}
	if err := fault.Inject(name); err != nil {
		t.Fatal(err)
	}
	defer fault.Reset()
	if lockdep.Enabled() {
		lockdep.Alone(f) // a violation is not this program's
	} else {
		f()
	}
}

// forSwitches runs a test with each switch and with none.
func forSwitches(t *testing.T, f func(t *testing.T, m *model, injected string)) {
	for _, name := range append(fault.Names(), "") {
		both(t, name+",merge", func(t *testing.T, merge bool) {
			injecting(t, name, func() {
				synctest.Test(t, func(t *testing.T) {
					m := newModel(t, merge)
					defer m.close()
					m.a.Attach(m)
					f(t, m, name)
				})
			})
		})
	}
}

func both(t *testing.T, what string, f func(t *testing.T, yes bool)) {
	for _, yes := range []bool{true, false} {
		t.Run(fmt.Sprintf("%s=%v", what, yes), func(t *testing.T) { f(t, yes) })
	}
}

// A store that has its active reference wants the hotplug lock for reading; a
// destroy that holds it for reading wants the reference gone; in between a writer
// of the lock has come. Without the writer the wrong order looks right.
func TestThreeParties(t *testing.T) {
	both(t, "hotplug", func(t *testing.T, hotplug bool) {
		forSwitches(t, func(t *testing.T, m *model, injected string) {
			c := m.cache("model", 64, 0)
			file := m.file(c)
			var werr error
			parties := []func(){func() { werr = m.write(file) }, m.destroyer(1, c)}
			if hotplug {
				parties = append(parties, func() { m.plug(2) })
			}
			got, want := m.deadlock(parties...), hotplug && (injected == fault.UnlinkUnderLocks || injected == fault.NotifyUnderLocks)
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
			if got, want := m.a.Misuse() > 0, injected == fault.NoDrain || injected == fault.ReleaseBeforeUnlink; got != want {
				t.Errorf("the store saw a released cache: %v; want %v", got, want)
			}
		})
	})
}

// A publish may take the allocator's locks, since it is called with none held.
func TestPublish(t *testing.T) {
	both(t, "hotplug", func(t *testing.T, hotplug bool) {
		forSwitches(t, func(t *testing.T, m *model, injected string) {
			parties := []func(){func() {
				if _, err := m.a.NewCache("tuned", 64, alloc.CacheOptions{}); err != nil {
					t.Error(err)
				}
			}}
			if hotplug {
				parties = append(parties, func() { m.plug(1) })
			}
			if got, want := m.deadlock(parties...), hotplug && injected == fault.PublishUnderLocks; got != want {
				t.Errorf("deadlock: %v; want %v", got, want)
			}
		})
	})
}

// A create that comes after the locks of a destroy and before its unlink is told that
// the name is taken. If the name is free by then, it meets the old directory.
func TestNameDuringUnlink(t *testing.T) {
	forSwitches(t, func(t *testing.T, m *model, injected string) {
		m.lag = 2 * tick
		c := m.cache("model", 64, 0)
		var err error
		if m.deadlock(m.destroyer(0, c), func() {
			time.Sleep(tick)
			_, err = m.a.NewCache("model", 64, alloc.CacheOptions{})
		}) {
			t.Error("deadlock")
		}
		want := alloc.ErrExist
		switch injected {
		case fault.EarlyName:
			want = sysfs.ErrExist
		case fault.UnlinkUnderLocks, fault.NotifyUnderLocks:
			return // it waits for the locks, and may come before the name is free or after that
		}
		if !errors.Is(err, want) {
			t.Errorf("create during the unlink: %v; want %v", err, want)
		}
	})
}

// Of two destroys of typesafe-by-RCU caches the first waits for a store. If its cache is
// on the list of the work by then, the work of the second releases it. Without the
// second that looks right.
func TestTwoDestroys(t *testing.T) {
	both(t, "second", func(t *testing.T, second bool) {
		forSwitches(t, func(t *testing.T, m *model, injected string) {
			m.work = time.Minute
			c, d := m.cache("model", 64, alloc.TypesafeByRCU), m.cache("second", 128, alloc.TypesafeByRCU)
			file := m.file(c)
			parties := []func(){
				func() {
					if err := m.write(file); err != nil {
						t.Error(err)
					}
				},
				m.destroyer(1, c),
			}
			if second {
				parties = append(parties, m.destroyer(2, d))
			}
			if m.deadlock(parties...) {
				t.Error("deadlock")
			}
			want := false
			switch injected {
			case fault.PublishBeforeUnlink:
				want = second
			case fault.NoDrain, fault.ReleaseBeforeUnlink:
				want = true
			}
			if got := m.a.Misuse() > 0; got != want {
				t.Errorf("a released cache was in use: %v; want %v", got, want)
			}
		})
	})
}

// When Destroy of a typesafe-by-RCU cache has returned, its directory is gone and its
// name is free, however long a reader stays.
func TestReturnOfDestroy(t *testing.T) {
	forSwitches(t, func(t *testing.T, m *model, injected string) {
		gone := func(file *sysfs.File, want bool) {
			t.Helper()
			_, err := m.a.NewCache("model", 64, alloc.CacheOptions{})
			free := err == nil
			if !free && !errors.Is(err, alloc.ErrExist) {
				t.Error(err)
			}
			dead := errors.Is(m.write(file), sysfs.ErrGone)
			if file.Parent().Removed() != want || dead != want || free != want {
				t.Errorf("the directory is gone: %v, its file works no more: %v, the name is free: %v; want %v", file.Parent().Removed(), dead, free, want)
			}
		}
		c := m.cache("model", 64, alloc.TypesafeByRCU)
		c.Free(c.Alloc()) // the slab waits for the reader, the release for the slab
		file := m.file(c)
		reader := m.a.RCU().ReadLock()
		m.destroyer(0, c)()
		late := injected == fault.LateUnlink
		gone(file, !late)
		m.a.RCU().ReadUnlock(reader)
		if late {
			time.Sleep(tick) // until the others wait
			gone(file, true)
		}
	})
}
