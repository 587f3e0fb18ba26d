package fusefs

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
)

// Whoever looks at a name all the time makes the kernel ask again whenever the entry has
// expired, and an answer may be on its way while the name is removed. After that nobody
// finds it, and once it is taken again nobody finds what was there before.
func TestRemovalOvertakesLookup(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{EntryTimeout: 4 * time.Millisecond})
	s.notifier.wait.Store(int64(time.Minute)) // the machine may be slow
	c := testclient.Start(t, testclient.Options{})
	path := s.at("name")
	for range 2 {
		cmd := exec.Command("sh", "-c", `while kill -0 $PPID; do [ -e "$1" ]; done`, "sh", path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	attr := x.attr(t, "value")
	const rounds = 300
	k, err := x.tree.Root().Add("name", nil, attr)
	for i := range rounds {
		if err != nil {
			t.Fatal(err)
		}
		c.OK(Op{Do: "stat", Path: path})
		time.Sleep(8*time.Millisecond + time.Duration(i%40)*100*time.Microsecond) // around the end of a timeout
		k.Remove()
		if i%2 == 0 {
			c.Want(unix.ENOENT, Op{Do: "stat", Path: path})
		}
		k, err = x.tree.Root().Add("name", nil, attr)
		if err != nil {
			t.Fatal(err)
		}
		if st := c.OK(Op{Do: "stat", Path: path}).Stat; st.Ino != k.Ino() {
			t.Fatalf("round %d: inode number = %d; want %d, of what has the name now", i, st.Ino, k.Ino())
		}
	}
}

// A descriptor that outlives its connection may have the number of the next one.
func TestNotificationDespiteOldDescriptor(t *testing.T) {
	x := newFixture()
	old := serve(t, x.tree, Options{})
	for range 20 { // some stand before the new one, whatever the order
		again(t, old)
	}
	if err := old.Unmount(patiently(t)); err != nil {
		t.Fatal(err)
	}
	s := serve(t, x.tree, Options{})
	s.notifier.wait.Store(int64(time.Minute)) // the machine may be slow
	c := testclient.Start(t, testclient.Options{})
	c.OK(Op{Do: "stat", Path: s.at("cache")})
	x.cache.Remove()
	c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache")})
}
