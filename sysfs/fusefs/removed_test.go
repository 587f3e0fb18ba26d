package fusefs

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// What the kernel asks of a fileSystem, by clients that all have the number 0.
type asker struct {
	tb testing.TB
	f  *fileSystem
}

// walk looks up path from the root, and returns the last answer.
func (a asker) walk(path ...string) (last fuse.EntryOut) {
	a.tb.Helper()
	last.NodeId = fuse.FUSE_ROOT_ID
	for _, name := range path {
		var out fuse.EntryOut
		if status := a.f.Lookup(nil, &fuse.InHeader{NodeId: last.NodeId}, name, &out); !status.Ok() {
			a.tb.Fatalf("lookup of %s: %v", name, status)
		}
		last = out
	}
	return last
}

func (a asker) want(status fuse.Status, node uint64, what string) {
	a.tb.Helper()
	in := fuse.OpenIn{InHeader: fuse.InHeader{NodeId: node}, Flags: syscall.O_RDONLY}
	if got := a.f.Open(nil, &in, new(fuse.OpenOut)); got != status {
		a.tb.Errorf("open %s: %v; want %v", what, got, status)
	}
}

// ESTALE goes to each client that comes by what the kernel remembers, and to
// none that has walked there.
func TestOpenOfRemoved(t *testing.T) {
	const stale = fuse.Status(syscall.ESTALE)
	x := newFixture()
	a := asker{t, newFileSystem(x.tree, Options{}, nil)}
	replace := func() {
		x.cache.Remove()
		x.tree.Root().Child("alias-cache").(*sysfs.Link).Remove()
		x.add("cache")
	}
	old := a.walk("cache", "value")
	if old.EntryTimeout() != time.Second {
		t.Errorf("a name is good for %v; want a second", old.EntryTimeout())
	}
	a.want(fuse.OK, old.NodeId, "what is there")
	replace()
	a.want(stale, old.NodeId, "a removed file by memory")
	a.want(stale, old.NodeId, "a removed file by memory, by another client")
	again := a.walk("cache", "value")
	if again.EntryTimeout() != 0 {
		t.Errorf("after an ESTALE a name is good for %v; want 0", again.EntryTimeout())
	}
	a.want(fuse.OK, again.NodeId, "what is there now")
	replace()
	a.want(fuse.ENODEV, again.NodeId, "a removed file by its descriptor")
	again = a.walk("cache", "value")
	a.walk("cache", "value")
	replace()
	a.want(fuse.ENOENT, again.NodeId, "what was removed behind the lookup")
	a.want(fuse.ENOENT, again.NodeId, "the same by another client")
	a.want(fuse.ENODEV, again.NodeId, "the same by its descriptor")
	a.want(stale, old.NodeId, "the first one by memory")

	a.f.doubt = time.Time{} // later
	third, removed := a.walk("cache", "value"), x.cache
	if third.EntryTimeout() != time.Second {
		t.Errorf("later a name is good for %v; want a second", third.EntryTimeout())
	}
	replace()
	a.want(stale, third.NodeId, "a removed file by memory")
	a.f.disbelieve(removed)
	a.want(stale, third.NodeId, "a removed file whose directory's name is forgotten")
	a.want(fuse.ENODEV, third.NodeId, "the same again")
	a.want(stale, 12345, "what nobody knows")
}

// Clients of another PID namespace, which all have the number 0 for the server,
// never see an ESTALE.
func TestOtherPIDNamespace(t *testing.T) {
	const clients = 4
	if unix.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := mountDir(t)
	server := startChildIn(t, syscall.CLONE_NEWPID, dir, 0, "CHURN=1")
	if server.says != "ready" {
		t.Fatal(server.says)
	}
	results := make(chan unix.Errno, clients*1000)
	var all sync.WaitGroup
	for range clients {
		c := testclient.Start(t, testclient.Options{})
		all.Go(func() {
			for range 1000 {
				r := c.Do(Op{Do: "open", Path: dir + "/cache/value", Flags: unix.O_RDONLY})
				if r.Errno == 0 {
					c.Do(Op{Do: "close", FD: r.FD})
				}
				results <- r.Errno
			}
		})
	}
	all.Wait()
	close(results)
	got := make(map[unix.Errno]int)
	for errno := range results {
		got[errno]++
	}
	t.Logf("opens by result: %v", got)
	if got[0] == 0 || got[0]+got[unix.ENOENT]+got[unix.ENODEV] != clients*1000 {
		t.Errorf("opens by result: %v; want success, ENOENT and ENODEV", got)
	}
}

// Who opens a removed file anew by its descriptor has no name to walk by, and
// gets ENODEV as from sysfs.
func TestReopenRemoved(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "value"), Flags: unix.O_RDONLY}).FD
	again := Op{Do: "open", Path: fmt.Sprintf("/proc/self/fd/%d", fd), Flags: unix.O_RDONLY}
	c.OK(again)
	x.cache.Remove()
	for range 3 {
		c.Want(unix.ENODEV, again)
	}
}
