package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// Two descriptors of one file store at once; two writes on one descriptor do not.
func TestParallelStores(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	open := func() int {
		return c.OK(Op{Do: "open", Path: s.at("cache", "wait"), Flags: unix.O_RDWR}).FD
	}
	a, b := open(), open()
	first := c.Go(Op{Do: "pwrite", FD: a, Data: []byte("1")}) // write would take the kernel's lock of the position
	second := c.Go(Op{Do: "pwrite", FD: b, Data: []byte("1")})
	eventually(t, "two stores at once", func() bool { return x.stores.Load() == 2 })
	// A store in progress delays nobody else.
	c.OK(Op{Do: "cat", Path: s.at("cache", "value")})
	c.OK(Op{Do: "stat", Path: s.at("cache", "wait")})
	c.OK(Op{Do: "readdir", Path: s.at("cache")})

	third := c.Go(Op{Do: "pwrite", FD: a, Data: []byte("1")})
	third.TID()
	time.Sleep(20 * time.Millisecond)
	if n := x.stores.Load(); n != 2 {
		t.Errorf("%d stores with two writes on one descriptor and one on another; want 2", n)
	}
	third.Interrupt()
	if r := third.Wait(); r.Errno != unix.EINTR {
		t.Errorf("interrupted wait for the descriptor: %v; want EINTR", r.Errno)
	}
	close(x.release)
	for _, p := range []*testclient.Pending{first, second} {
		if r := p.Wait(); r.Errno != 0 || r.N != 1 {
			t.Errorf("store = %d, %v; want 1", r.N, r.Errno)
		}
	}
}

// A store that waits for its turn or inside is interrupted by a signal, and its
// process can be killed.
func TestInterrupt(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{MaxStores: 1})
	c := testclient.Start(t, testclient.Options{})
	write := func(c *testclient.Client) *testclient.Pending {
		// Those that open for writing only would wait for each other in the kernel.
		fd := c.OK(Op{Do: "open", Path: s.at("cache", "wait"), Flags: unix.O_RDWR}).FD
		return c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	}
	inside := write(c)
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	queued := write(c)
	queued.TID()
	time.Sleep(20 * time.Millisecond)
	if n := x.stores.Load(); n != 1 {
		t.Errorf("%d stores at once; want MaxStores, 1", n)
	}
	queued.Interrupt()
	if r := queued.Wait(); r.Errno != unix.EINTR {
		t.Errorf("interrupted wait for a slot: %v; want EINTR", r.Errno)
	}
	inside.Interrupt()
	if r := inside.Wait(); r.Errno != unix.EINTR {
		t.Errorf("interrupted store: %v; want EINTR", r.Errno)
	}
	eventually(t, "the store ended", func() bool { return x.stores.Load() == 0 })

	victim := testclient.Start(t, testclient.Options{})
	write(victim)
	eventually(t, "another store", func() bool { return x.stores.Load() == 1 })
	victim.Kill()
	eventually(t, "the killed client's store ended", func() bool { return x.stores.Load() == 0 })
	close(x.release)
	c.OK(Op{Do: "echo", Path: s.at("cache", "wait"), Data: []byte("1")}) // the slot is free
}

// A writer that queues for a slot holds no active reference: removal does not wait for it.
func TestQueueDoesNotDelayRemoval(t *testing.T) {
	x := newFixture()
	other := x.add("other")
	s := serve(t, x.tree, Options{MaxStores: 1})
	c := testclient.Start(t, testclient.Options{})
	write := func(dir string) *testclient.Pending {
		fd := c.OK(Op{Do: "open", Path: s.at(dir, "wait"), Flags: unix.O_WRONLY}).FD
		return c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	}
	first := write("cache")
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	second := write("other")
	second.TID()
	other.Remove() // would wait for release if the writer held a reference
	close(x.release)
	if r := first.Wait(); r.Errno != 0 {
		t.Errorf("first store: %v; want success", r.Errno)
	}
	if r := second.Wait(); r.Errno != unix.ENODEV {
		t.Errorf("store of the removed file: %v; want ENODEV", r.Errno)
	}
}

func threads(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(dir)
}

// Blocked clients cost the server goroutines, not threads. Others go on, and
// what is killed leaves nothing.
func TestThousandReaders(t *testing.T) {
	const readers = 1000
	for _, timeout := range []time.Duration{0, NoCache} {
		x := newFixture()
		s := serve(t, x.tree, Options{EntryTimeout: timeout, AttrTimeout: timeout})
		c, victim := testclient.Start(t, testclient.Options{}), testclient.Start(t, testclient.Options{})
		before := threads(t)
		var pending []*testclient.Pending
		for i := range readers {
			if i%2 == 0 {
				victim.Go(Op{Do: "cat", Path: s.at("cache", "wait")})
			} else {
				pending = append(pending, c.Go(Op{Do: "cat", Path: s.at("cache", "wait")}))
			}
		}
		eventually(t, "all readers are in", func() bool { return x.reads.Load() == readers })
		if more := threads(t) - before; more > 50 {
			t.Errorf("%d readers cost %d threads of the server; want a few", readers, more)
		}
		other := testclient.Start(t, testclient.Options{})
		use := func() {
			other.OK(Op{Do: "cat", Path: s.at("cache", "value")})
			other.OK(Op{Do: "echo", Path: s.at("cache", "value"), Data: []byte("5")})
			other.OK(Op{Do: "walk", Path: s.Dir()})
		}
		use()
		victim.Kill()
		eventually(t, "half of the readers are gone", func() bool {
			s.fs.mu.Lock()
			defer s.fs.mu.Unlock()
			return x.reads.Load() == readers/2 && len(s.fs.files) == readers/2
		})
		use()
		close(x.release)
		for _, p := range pending {
			if r := p.Wait(); string(r.Data) != "waited\n" {
				t.Fatalf("blocked reader got %q, %v; want %q", r.Data, r.Errno, "waited\n")
			}
		}
		eventually(t, "nothing is left", func() bool {
			s.fs.mu.Lock()
			defer s.fs.mu.Unlock()
			return x.reads.Load() == 0 && len(s.fs.files) == 0
		})
		x.cache.Remove() // no reader has kept a reference
	}
}

// A removal waits for the store under way, which ends normally.
func TestRemoveWaitsForStore(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "wait"), Flags: unix.O_WRONLY}).FD
	store := c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	var over atomic.Bool
	removed := make(chan struct{})
	go func() {
		defer close(removed)
		x.cache.Remove()
		if !over.Load() {
			t.Error("Remove returned while a store ran")
		}
	}()
	eventually(t, "the name is gone", func() bool {
		return c.Do(Op{Do: "stat", Path: s.at("cache", "ro")}).Errno == unix.ENOENT
	})
	time.Sleep(20 * time.Millisecond)
	over.Store(true)
	close(x.release)
	<-removed
	if r := store.Wait(); r.Errno != 0 || r.N != 1 {
		t.Errorf("store = %d, %v; want 1", r.N, r.Errno)
	}
}

func cwd(t *testing.T, c *testclient.Client) string {
	t.Helper()
	dir, err := os.Readlink("/proc/" + strconv.Itoa(c.PID()) + "/cwd")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The kernel hears of removals at once, through one notification each.
func TestRemovalIsNotified(t *testing.T) {
	x := newFixture()
	link, err := x.tree.Root().Link("link", x.cache)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, x.tree, Options{})
	s.notifier.wait.Store(int64(time.Minute)) // the machine may be slow
	c := testclient.Start(t, testclient.Options{})
	for _, e := range c.OK(Op{Do: "readdir", Path: s.at("cache")}).Entries {
		c.OK(Op{Do: "stat", Path: s.at("cache", e.Name)})
	}
	c.OK(Op{Do: "open", Path: s.at("cache", "value")})
	c.OK(Op{Do: "lstat", Path: s.at("link")})
	c.OK(Op{Do: "chdir", Path: s.at("cache")})
	link.Remove()
	x.cache.Remove()
	if got := s.Stats(); got != (Stats{Notified: 2}) {
		t.Errorf("stats = %+v; want two notifications: one for the link, one for the directory", got)
	}
	c.Want(unix.ENOENT, Op{Do: "lstat", Path: s.at("link")})
	c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache", "value")})
	eventually(t, "the working directory is (deleted)", func() bool { return strings.HasSuffix(cwd(t, c), " (deleted)") })

	x.add("unseen").Remove()
	if got := s.Stats().Notified; got != 2 {
		t.Errorf("%d notifications after removing what the kernel did not know; want 2", got)
	}
	seen := x.add("seen")
	c.OK(Op{Do: "cat", Path: s.at("seen", "value")})
	seen.Remove()
	eventually(t, "the kernel forgot what was removed", func() bool { return !s.fs.knows(seen) && len(s.fs.below(seen)) == 0 })
}

// Even when the kernel hears nothing, opening a path finds what is there now.
func TestOpenBelievesTheTree(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	s.notifier.busy.Store(1) // since 1970: all notifications are skipped
	c := testclient.Start(t, testclient.Options{})
	value := s.at("cache", "value")
	c.OK(Op{Do: "cat", Path: value})
	old := c.OK(Op{Do: "stat", Path: s.at("cache")}).Stat.Ino
	x.cache.Remove()
	c.Want(unix.ENOENT, Op{Do: "cat", Path: value})
	if s.Stats().Skipped == 0 {
		t.Error("no notification was skipped")
	}
	again := newFixture()
	again.value.Store(7)
	k, err := x.tree.Root().Add("cache", nil, again.attr(t, "value"))
	if err != nil {
		t.Fatal(err)
	}
	if r := c.OK(Op{Do: "cat", Path: value}); string(r.Data) != "7\n" {
		t.Errorf("cat of a new file with an old name = %q; want %q", r.Data, "7\n")
	}
	if st := c.OK(Op{Do: "stat", Path: s.at("cache")}).Stat; st.Ino != k.Ino() || st.Ino == old {
		t.Errorf("inode number = %d; want %d, not %d", st.Ino, k.Ino(), old)
	}
	s.notifier.busy.Store(0)
}

// stall returns a mapping in c's memory whose pages come from a file of another
// mount that does not answer until release is closed.
func stall(t *testing.T, c *testclient.Client, s *Server) (mapping int) {
	t.Helper()
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "stubborn"), Flags: unix.O_RDWR}).FD
	return c.OK(Op{Do: "mmap", FD: fd, Size: 4096}).Map
}

// A client that faults inside write(2), on memory that does not come, holds the
// file's inode lock, and the server knows nothing of it. Removal must not wait.
func TestRemovalDespiteFaultingWriter(t *testing.T) {
	x, slow := newFixture(), newFixture()
	s, far := serve(t, x.tree, Options{}), serve(t, slow.tree, Options{})
	s.notifier.wait.Store(int64(time.Minute)) // the machine may be slow, but the notification is not stuck
	hung, c := testclient.Start(t, testclient.Options{}), testclient.Start(t, testclient.Options{})
	memory := stall(t, hung, far)
	// Past the end: the lock is taken exclusively.
	fd := hung.OK(Op{Do: "open", Path: s.at("cache", "value"), Flags: unix.O_WRONLY | unix.O_APPEND}).FD
	write := hung.Go(Op{Do: "writemap", FD: fd, Map: memory, Size: 1})
	eventually(t, "the writer hangs in a page fault", func() bool { return slow.reads.Load() == 1 })
	c.OK(Op{Do: "stat", Path: s.at("cache", "ro")})

	start := time.Now()
	x.cache.Remove()
	if took := time.Since(start); s.Stats() != (Stats{Notified: 1}) {
		t.Errorf("removal took %v, stats %+v; want one finished notification", took, s.Stats())
	}
	c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache")})
	c.OK(Op{Do: "readdir", Path: s.Dir()})
	if _, ok := write.Try(0); ok {
		t.Error("the writer did not hang")
	}
	close(slow.release)
	if r := write.Wait(); r.Errno != unix.ENODEV {
		t.Errorf("the writer's store = %v; want ENODEV", r.Errno)
	}
}

// Why a removal is not told by NotifyDelete: it waits for such a writer. deleteAll
// is built in on purpose, to show it.
func TestDeleteAllWaitsForFaultingWriter(t *testing.T) {
	x, slow := newFixture(), newFixture()
	s, far := serve(t, x.tree, Options{}), serve(t, slow.tree, Options{})
	hung := testclient.Start(t, testclient.Options{})
	memory := stall(t, hung, far)
	fd := hung.OK(Op{Do: "open", Path: s.at("cache", "value"), Flags: unix.O_WRONLY}).FD
	write := hung.Go(Op{Do: "writemap", FD: fd, Map: memory, Size: 1})
	eventually(t, "the writer hangs in a page fault", func() bool { return slow.reads.Load() == 1 })
	s.notifier.busy.Store(1) // keeps Remove from notifying
	x.cache.Remove()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.deleteAll(sysfs.Removal{Parent: x.tree.Root(), Node: x.cache})
	}()
	select {
	case <-done:
		t.Error("NotifyDelete did not wait for the writer; a removal could use it after all")
	case <-time.After(2 * notifyWait):
	}
	close(slow.release)
	<-done
	write.Wait()
	s.notifier.busy.Store(0)
}

// A client that faults inside getdents holds the lock that a notification
// needs: removals wait a second for it once, and then not at all.
func TestStuckNotification(t *testing.T) {
	x, slow := newFixture(), newFixture()
	second, third := x.add("second"), x.add("third")
	s, far := serve(t, x.tree, Options{}), serve(t, slow.tree, Options{})
	hung, c := testclient.Start(t, testclient.Options{}), testclient.Start(t, testclient.Options{})
	memory := stall(t, hung, far)
	for _, name := range []string{"cache", "second", "third"} {
		c.OK(Op{Do: "stat", Path: s.at(name)})
	}
	fd := hung.OK(Op{Do: "open", Path: s.Dir()}).FD
	list := hung.Go(Op{Do: "getdentsmap", FD: fd, Map: memory})
	eventually(t, "the reader hangs in a page fault", func() bool { return slow.reads.Load() == 1 })

	x.cache.Remove()
	if got := s.Stats(); got != (Stats{Late: 1}) {
		t.Errorf("after the first removal: %+v; want one late notification", got)
	}
	start := time.Now()
	second.Remove()
	if got, took := s.Stats(), time.Since(start); got != (Stats{Late: 1, Skipped: 1}) {
		t.Errorf("after the second removal, %v: %+v; want one late, one skipped", took, got)
	}
	close(slow.release)
	if r := list.Wait(); r.Errno != 0 {
		t.Errorf("getdents: %v; want success", r.Errno)
	}
	eventually(t, "the late notification arrived", func() bool { return s.Stats().Notified == 1 })
	c.OK(Op{Do: "stat", Path: s.at("third")})
	third.Remove()
	eventually(t, "notifications work again", func() bool { return s.Stats().Notified == 2 })
	for _, name := range []string{"cache", "second", "third"} {
		eventually(t, name+" is gone", func() bool { return c.Do(Op{Do: "stat", Path: s.at(name)}).Errno == unix.ENOENT })
	}
}

// The same without a mount: how long removers wait, to the millisecond.
func TestNotifierWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		n := newNotifier(func(sysfs.Removal) { <-block }, func(sysfs.Removal) {}, func() ([]sysfs.Node, bool) { return nil, false })
		timed := func() time.Duration {
			start := time.Now()
			n.entry(sysfs.Removal{})
			return time.Since(start)
		}
		others := make(chan time.Duration, 3)
		for range cap(others) {
			go func() { others <- timed() }()
		}
		for range cap(others) {
			if d := <-others; d != notifyWait {
				t.Errorf("a remover waited %v; want %v", d, notifyWait)
			}
		}
		for range 5 {
			if d := timed(); d != 0 {
				t.Errorf("with one stuck a remover waited %v; want 0", d)
			}
		}
		if late, skipped := n.late.Load(), n.skipped.Load(); late != 1 || skipped != 7 {
			t.Errorf("late %d, skipped %d; want 1, 7", late, skipped)
		}
		close(block)
		synctest.Wait()
		if d := timed(); d != 0 || n.sent.Load() != 2 {
			t.Errorf("afterwards a remover waited %v, %d sent; want 0, 2", d, n.sent.Load())
		}
		n.stop()
		if d := timed(); d != 0 {
			t.Errorf("after stop a remover waited %v; want 0", d)
		}
	})
}

// Many may remove at once, and a busy machine may take long for each notification:
// as long as the kernel answers, each remover waits for its own.
func TestRemoversWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const removers, each = 120, notifyWait - time.Millisecond
		hidden := make(map[sysfs.Node]*atomic.Bool, removers)
		n := newNotifier(func(r sysfs.Removal) {
			time.Sleep(each)
			hidden[r.Node].Store(true)
		}, func(sysfs.Removal) {}, func() ([]sysfs.Node, bool) { return nil, false })
		defer n.stop()
		root := sysfs.NewTree().Root()
		for i := range removers {
			k, err := root.Add(fmt.Sprint("name", i), nil)
			if err != nil {
				t.Fatal(err)
			}
			hidden[k] = new(atomic.Bool)
		}
		var group sync.WaitGroup
		for k, done := range hidden {
			group.Go(func() {
				n.entry(sysfs.Removal{Parent: root, Node: k})
				if !done.Load() {
					t.Errorf("a remover went on before %s was hidden", k.Name())
				}
			})
		}
		group.Wait()
		if late, skipped := n.late.Load(), n.skipped.Load(); late+skipped != 0 {
			t.Errorf("late %d, skipped %d; want 0, 0", late, skipped)
		}
	})
}

// A signal ends waits, and nothing but waits: what need not wait is done, whenever the signal
// came.
func TestSignalWithoutWait(t *testing.T) {
	x := newFixture()
	signalled, cancel := context.WithCancel(t.Context())
	cancel()
	of := newOpenFile(x.cache.Child("value").(*sysfs.File), lockdep.Shared)
	slots := make(chan struct{}, 1)
	buf := make([]byte, 16)
	for i := range 100 { // a choice by chance would show
		want := fmt.Sprintln(i)
		if n, err := of.write(signalled, []byte(want), slots); n != len(want) || err != nil {
			t.Fatalf("write = %d, %v; want %d", n, err, len(want))
		}
		if n, err := of.read(signalled, buf, 0); err != nil || string(buf[:n]) != want {
			t.Fatalf("read = %q, %v; want %q", buf[:n], err, want)
		}
	}
	slots <- struct{}{}
	if n, err := of.write(signalled, []byte("1"), slots); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("no room: write = %d, %v; want %v", n, err, context.Canceled)
	}
	<-slots
	held, release := make(chan bool), make(chan bool)
	go func() {
		of.mu.Lock()
		held <- true
		<-release
		of.mu.Unlock()
		held <- false
	}()
	<-held
	if n, err := of.write(signalled, []byte("1"), slots); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("in use: write = %d, %v; want %v", n, err, context.Canceled)
	}
	if n, err := of.read(signalled, buf, 0); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("in use: read = %d, %v; want %v", n, err, context.Canceled)
	}
	release <- true
	<-held
}
