package fusefs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
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

// One reader lingers for another request, and not for ever.
func TestLinger(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	conn, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	d := &device{file: r, conn: conn, patience: time.Millisecond}
	buf := new([bufferSize]byte)
	if n := d.linger(buf); n != 0 {
		t.Errorf("a request of %d bytes; want none", n)
	}
	d.patience = 900 * time.Millisecond // less than a second: they are nanoseconds of a timespec
	got := make(chan int)
	go func() {
		n := 0
		for n == 0 { // the machine may be slow
			n = d.linger(buf)
		}
		got <- n
	}()
	eventually(t, "a reader lingers", d.lingers.Load)
	if _, err := w.WriteString("request"); err != nil {
		t.Fatal(err)
	}
	if n := <-got; string(buf[:n]) != "request" || d.lingers.Load() {
		t.Errorf("%q, still lingering: %v; want the request", buf[:n], d.lingers.Load())
	}
	if _, err := w.WriteString("next"); err != nil {
		t.Fatal(err)
	}
	d.lingers.Store(true)
	if n := d.linger(buf); n != 0 {
		t.Errorf("a second one that lingers has %d bytes", n)
	}
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
	for _, n := range []int{1, 4095, 4096, 4097, shortWrite - 81, shortWrite - 80, shortWrite - 79, maxWrite - 1, maxWrite, maxWrite + 1, 3 * maxWrite} {
		if got, want := c.OK(Op{Do: "write", FD: fd, Data: make([]byte, n)}).N, int64(min(n, 4096)); got != want {
			t.Errorf("a write of %d bytes: %d; want %d", n, got, want)
		}
	}
	for n := 1; n <= 255; n++ {
		c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache", strings.Repeat("n", n))})
	}
}

// A Store that waits keeps no buffer that has room for the largest request.
func TestWaitingStoresAreSmall(t *testing.T) {
	const stores = 50
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC() // twice: what a sync.Pool keeps survives one
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var fds []int
	for range stores {
		fds = append(fds, c.OK(Op{Do: "open", Path: s.at("cache", "wait"), Flags: unix.O_WRONLY}).FD)
	}
	before := heap()
	for _, fd := range fds {
		c.Go(Op{Do: "pwrite", FD: fd, Data: []byte("1")})
	}
	eventually(t, "all wait", func() bool { return x.stores.Load() == stores })
	if grown := int64(heap() - before); grown > stores*bufferSize/2 {
		t.Errorf("%d stores that wait hold %d bytes; want less than %d", stores, grown, stores*bufferSize/2)
	}
	close(x.release)
}

// abort ends the connection of a server as its operator would.
func abort(t *testing.T, s *Server) {
	t.Helper()
	control := t.TempDir()
	if err := unix.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
		t.Fatalf("mount fusectl: %v", err)
	}
	defer func() {
		if err := unix.Unmount(control, 0); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(filepath.Join(control, strconv.Itoa(s.minor), "abort"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

// A notification that hangs, as in TestStuckNotification, does not keep serving from ending.
func TestAbortDespiteStuckNotification(t *testing.T) {
	x, slow := newFixture(), newFixture()
	s, far := serve(t, x.tree, Options{}), serve(t, slow.tree, Options{})
	hung, c := testclient.Start(t, testclient.Options{}), testclient.Start(t, testclient.Options{})
	memory := stall(t, hung, far)
	c.OK(Op{Do: "stat", Path: s.at("cache")})
	fd := hung.OK(Op{Do: "open", Path: s.Dir()}).FD
	list := hung.Go(Op{Do: "getdentsmap", FD: fd, Map: memory})
	eventually(t, "the reader hangs in a page fault", func() bool { return slow.reads.Load() == 1 })
	s.fs.mu.Lock()
	s.fs.inodes[x.cache.Ino()].again = time.Time{} // long ago: the notification goes by the device
	s.fs.mu.Unlock()
	x.cache.Remove()
	if got := s.Stats(); got != (Stats{Late: 1}) {
		t.Errorf("after the removal: %+v; want one late notification", got)
	}
	abort(t, s)
	eventually(t, "serving ends", func() bool { return errors.Is(s.Err(), ErrConnectionLost) })
	if _, ok := list.Try(0); ok {
		t.Error("the reader did not hang")
	}
	close(slow.release)
	list.Wait()
}

// Whom the kernel has interrupted, and who does not care, is not interrupted again and
// again when the connection ends.
func TestAbortDespiteStubbornStore(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "stubborn"), Flags: unix.O_RDWR}).FD
	store := c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	store.Interrupt()
	eventually(t, "it was interrupted", func() bool {
		s.device.mu.Lock()
		defer s.device.mu.Unlock()
		return slices.Contains(slices.Collect(maps.Values(s.device.inFlight)), true)
	})
	abort(t, s)
	store.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.device.interruptAll()
	}()
	eventually(t, "all are interrupted", func() bool {
		stacks := make([]byte, 1<<20)
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("fusefs.(*device).interruptAll("))
	})
	<-ended
	if x.stores.Load() != 1 {
		t.Error("the store has ended; want one that goes on")
	}
	close(x.release)
	<-s.Done()
}

// blocking is a file system whose attributes come when the request is interrupted.
type blocking struct{ fuse.RawFileSystem }

func (blocking) GetAttr(cancel <-chan struct{}, _ *fuse.GetAttrIn, _ *fuse.AttrOut) fuse.Status {
	<-cancel
	return fuse.EINTR
}

// A request that was read before the end, and begins after, waits for nothing.
func TestRequestOvertakenByEnd(t *testing.T) {
	d := &device{handler: fuse.NewProtocolServer(blocking{fuse.NewDefaultRawFileSystem()}, &fuse.MountOptions{}), inFlight: make(map[uint64]bool)}
	d.mu.Init(lockdep.Leaf)
	d.interruptAll()
	const getattr, size = 3, requestHeader + 16
	buf := new([bufferSize]byte)
	binary.NativeEndian.PutUint32(buf[:], size)
	binary.NativeEndian.PutUint32(buf[offOpcode:], getattr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.answer(buf, size)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("the request waits to be interrupted")
	}
}
