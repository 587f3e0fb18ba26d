package fusefs

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
)

// Who waits for a request waits in the poller, where a goroutine has no processor: in a system call
// it would keep one until the runtime takes it away.
func TestReadersHoldNoProcessor(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	for range 100 {
		c.OK(Op{Do: "cat", Path: s.at("cache", "value")})
	}
	waiting := func() (here, parked int) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for goroutine := range bytes.SplitSeq(stacks, []byte("\n\n")) {
			if bytes.Contains(goroutine, []byte("fusefs.(*device).read(")) {
				here++
				if state, _, _ := strings.Cut(string(goroutine), "\n"); strings.Contains(state, "[IO wait") || strings.Contains(state, "[semacquire") {
					parked++
				}
			}
		}
		return here, parked
	}
	eventually(t, "all readers are parked", func() bool {
		here, parked := waiting()
		return here > 0 && here == parked
	})
}

// Where the connection's descriptor cannot be found go-fuse reads, and all works.
func TestWithoutDevice(t *testing.T) {
	withoutDevice.Store(true)
	defer withoutDevice.Store(false)
	x := newFixture()
	s := serve(t, x.tree, Options{})
	if s.device != nil {
		t.Fatal("there is a device")
	}
	c := testclient.Start(t, testclient.Options{})
	c.OK(Op{Do: "echo", Path: s.at("cache", "value"), Data: []byte("7\n")})
	if got := c.OK(Op{Do: "cat", Path: s.at("cache", "value")}).Data; string(got) != "7\n" {
		t.Errorf("value = %q; want 7", got)
	}
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "wait"), Flags: unix.O_RDWR}).FD
	store := c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	store.Interrupt()
	if r := store.Wait(); r.Errno != unix.EINTR {
		t.Errorf("an interrupted write: %v; want EINTR", r.Errno)
	}
	x.cache.Remove()
	c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache")})
	c.OK(Op{Do: "close", FD: fd})
	if err := s.Unmount(context.Background()); err != nil {
		t.Error(err)
	}
}

// The longest reads and writes, and names of every length before them in the buffer.
func TestSizes(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	want := strings.Repeat("0123456789\n", 20000)
	if got := c.OK(Op{Do: "cat", Path: s.at("cache", "seq")}).Data; string(got) != want {
		t.Errorf("%d bytes; want %d", len(got), len(want))
	}
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "wo"), Flags: unix.O_WRONLY}).FD
	for _, n := range []int{1, 4095, 4096, 4097, maxWrite - 1, maxWrite, maxWrite + 1, 3 * maxWrite} {
		if got, want := c.OK(Op{Do: "write", FD: fd, Data: make([]byte, n)}).N, int64(min(n, 4096)); got != want {
			t.Errorf("a write of %d bytes: %d; want %d", n, got, want)
		}
	}
	for n := 1; n <= 255; n++ {
		c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache", strings.Repeat("n", n))})
	}
}
