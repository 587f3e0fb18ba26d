package fusefs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	golog "log"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
	"slabfs/sysfs"
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
	d := &device{file: r, conn: conn}
	buf := new([bufferSize]byte)
	if n := d.linger(buf, time.Millisecond); n != 0 {
		t.Errorf("a request of %d bytes; want none", n)
	}
	const long = 900 * time.Millisecond
	got := make(chan int)
	go func() {
		n := 0
		for n == 0 { // the machine may be slow
			n = d.linger(buf, long)
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
	if n := d.linger(buf, long); n != 0 {
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
	if err := s.Unmount(patiently(t)); err != nil {
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
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "empty"), Flags: unix.O_RDWR}).FD
	for _, n := range []int{1, 4095, 4096, 4097, shortWrite - 81, shortWrite - 80, shortWrite - 79, bufferSize - 81, bufferSize - 80, bufferSize - 79, 1 << 20, maxWrite, maxWrite + 1} {
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
		fds = append(fds, c.OK(Op{Do: "open", Path: s.at("cache", "wait"), Flags: unix.O_RDWR}).FD)
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
	c.OK(Op{Do: "statfs", Path: s.Dir()}) // nor others from getting their answers
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
	if s.device == nil {
		t.Fatal("requests are read by go-fuse; want a device (Linux 4.2)")
	}
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

// Where go-fuse reads, an abort ends clients too, also those in a Store that does not care.
func TestAbortWithoutDevice(t *testing.T) {
	withoutDevice.Store(true)
	defer withoutDevice.Store(false)
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "stubborn"), Flags: unix.O_RDWR}).FD
	store := c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	store.Interrupt()
	abort(t, s)
	store.Wait()
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

// Readers that many requests at once have made end with them, and give their buffers back.
func TestReadersEnd(t *testing.T) {
	const requests = 50
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	var pending []*testclient.Pending
	for range requests {
		pending = append(pending, c.Go(Op{Do: "cat", Path: s.at("cache", "wait")}))
	}
	eventually(t, "all wait", func() bool { return x.reads.Load() == requests })
	close(x.release)
	for _, p := range pending {
		p.Wait()
	}
	eventually(t, "few readers are left", func() bool {
		c.OK(Op{Do: "statfs", Path: s.Dir()}) // one that need not wait lets another one end
		return s.device.idle.Load() < 5
	})
}

// What a Store is given stays as it is while the Store waits and others come.
func TestWaitingStoresKeepTheirData(t *testing.T) {
	const stores = 20
	x := newFixture()
	var waiting atomic.Int64
	seen := make(chan string, 2*stores)
	var files []*sysfs.Attribute // one for each: a long write has the file for itself
	for i := range 2 * stores {
		files = append(files, &sysfs.Attribute{Name: strconv.Itoa(i), Mode: 0o200, Store: func(_ context.Context, _ any, data []byte) error {
			waiting.Add(1)
			<-x.release
			seen <- string(data)
			return nil
		}})
	}
	if _, err := x.tree.Root().Add("keep", nil, files...); err != nil {
		t.Fatal(err)
	}
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	want := make(map[string]bool)
	var pending []*testclient.Pending
	for i, f := range files {
		data := strings.Repeat(string(rune('0'+i)), sysfs.PageSize)
		want[data] = true
		fd := c.OK(Op{Do: "open", Path: s.at("keep", f.Name), Flags: unix.O_WRONLY}).FD
		pending = append(pending, c.Go(Op{Do: "pwrite", FD: fd, Data: []byte(strings.Repeat(data, 1+i%2*(shortWrite/sysfs.PageSize)))}))
		eventually(t, "it waits", func() bool { return waiting.Load() == int64(i+1) })
	}
	close(x.release)
	for _, p := range pending {
		p.Wait()
		delete(want, <-seen)
	}
	if len(want) > 0 {
		t.Errorf("%d of %d stores got other data than was written", len(want), 2*stores)
	}
}

// What the kernel does not do: a request that is too short has no number to answer to, one that
// asks for more than there is room for gets an error, and the end of reading by an error
// is not that of the connection.
func TestOddRequests(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d := &device{
		file: r, conn: conn, inFlight: make(map[uint64]bool), log: slog.New(slog.NewTextHandler(&log, nil)),
		handler: fuse.NewProtocolServer(fuse.NewDefaultRawFileSystem(), &fuse.MountOptions{Logger: golog.New(io.Discard, "", 0)}),
	}
	d.mu.Init(lockdep.Leaf)
	d.buffers.New = func() any { return new([bufferSize]byte) }
	d.answer(new([bufferSize]byte), 1)
	const read, size, number = 15, requestHeader + 40, 7
	buf := new([bufferSize]byte)
	binary.NativeEndian.PutUint32(buf[:], size)
	binary.NativeEndian.PutUint32(buf[offOpcode:], read)
	binary.NativeEndian.PutUint64(buf[offUnique:], number)
	binary.NativeEndian.PutUint32(buf[offSize:], maxWrite+1)
	d.answer(buf, size)
	got := make([]byte, 2*replyHeader)
	n, err := r.Read(got)
	status, unique := int32(binary.NativeEndian.Uint32(got[offStatus:])), binary.NativeEndian.Uint64(got[offUnique:])
	if n != replyHeader || err != nil || status != -int32(unix.EIO) || unique != number {
		t.Errorf("reply of %d bytes, %v: status %d to %d; want %d, %d to %d", n, err, status, unique, replyHeader, -int32(unix.EIO), number)
	}
	if d.conn, err = r.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	d.serve()
	if d.lost {
		t.Error("a read that failed ended the connection")
	}
	for _, want := range []string{"without a header", "read from the kernel"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log = %q; want %q", log.String(), want)
		}
	}
}

// A server that has ended keeps no descriptor, nor does one that looked for its connection
// among others. The servers stay reachable, so that nobody else closes what is theirs.
func TestDescriptorsAreClosed(t *testing.T) {
	serve(t, newFixture().tree, Options{})
	descriptors := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := descriptors()
	var servers []*Server
	for range 10 {
		s := serve(t, newFixture().tree, Options{})
		if err := s.Unmount(patiently(t)); err != nil {
			t.Error(err)
		}
		servers = append(servers, s)
	}
	eventually(t, "all are closed", func() bool { return descriptors() <= before })
	runtime.KeepAlive(servers)
}

// Where fdinfo does not tell whose connection a descriptor has, as in Linux 6.12,
// each server finds its own.
func TestSilentFdinfo(t *testing.T) {
	silent.Store(true)
	defer silent.Store(false)
	for range 3 {
		s := serve(t, newFixture().tree, Options{})
		if s.device == nil {
			t.Fatal("there is no device")
		}
		c := testclient.Start(t, testclient.Options{})
		if got := c.OK(Op{Do: "cat", Path: s.at("cache", "value")}).Data; string(got) != "120\n" {
			t.Errorf("value = %q; want 120", got)
		}
	}
}

// again returns another descriptor of a server's connection, which outlives it.
func again(t *testing.T, s *Server) (fd int) {
	t.Helper()
	if err := s.device.conn.Control(func(own uintptr) {
		var err error
		if fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// A descriptor serves the connection of that number as long as it lives.
func TestServes(t *testing.T) {
	s := serve(t, newFixture().tree, Options{})
	fd := again(t, s)
	info, err := os.ReadFile(fmt.Sprint("/proc/self/fdinfo/", fd))
	if err != nil {
		t.Fatal(err)
	}
	tells := strings.Contains(string(info), connectionOf)
	if !tells && !serves(fd, s.minor, true) {
		t.Error("the only connection does not serve")
	}
	for _, minor := range []int{s.minor / 10, s.minor + 1, 10 * s.minor, s.minor} {
		if got, want := serves(fd, minor, false), tells && minor == s.minor; got != want {
			t.Errorf("connection %d serves %d: %v; want %v", s.minor, minor, got, want)
		}
	}
	abort(t, s)
	<-s.Done()
	if serves(fd, s.minor, true) {
		t.Error("a connection that has ended serves")
	}
}
