package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// A device is a second descriptor of go-fuse's connection. We read the kernel's
// requests from it ourselves, with the runtime's poller.
//
// go-fuse would wait for requests in read(2). There a goroutine keeps its
// processor until the runtime looks for blocked ones, which it does every 10 ms
// in a program that computes. On one processor, each request could cost such a
// program 10 ms.
type device struct {
	file    *os.File
	conn    syscall.RawConn      // of file
	handler *fuse.ProtocolServer // go-fuse without a descriptor
	log     *slog.Logger
	idle    atomic.Int32 // goroutines that wait for a request in the poller
	lingers atomic.Bool  // one goroutine waits in a system call
	readers sync.WaitGroup
	buffers sync.Pool // of *[bufferSize]byte

	mu       lockdep.Mutex
	inFlight map[uint64]bool // mu: requests being answered, by number; true if interrupted
	lost     bool            // mu: the connection has ended
}

// bufferSize is enough for each request, except a long write, and for each
// reply.
const bufferSize = maxRead + 1<<12

// spill receives the part of a request that is longer than a buffer: the end of
// a long write. A Store gets only one page of a write, so nothing reads spill,
// and all readers share it. It has to exist because the kernel gives no request
// to a reader without room for the longest one.
var spill = sync.OnceValues(func() ([]byte, error) {
	return unix.Mmap(-1, 0, maxWrite, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
})

// withoutDevice makes go-fuse read the requests. It is for tests.
var withoutDevice atomic.Bool

// newDevice returns a device for the connection with that number. before are
// the descriptors of /dev/fuse from before the connection was made. It returns
// nil if the kernel cannot open a second descriptor (before Linux 4.2), or does
// not tell which of several new descriptors belongs to the connection.
func newDevice(minor int, before map[int]bool, fs fuse.RawFileSystem, mo *fuse.MountOptions, kernel *fuse.InitIn, log *slog.Logger) *device {
	d := &device{file: openConnection(minor, before), handler: fuse.NewProtocolServer(fs, mo), log: log, inFlight: make(map[uint64]bool)}
	if d.file == nil || withoutDevice.Load() {
		d.close()
		return nil
	}
	d.mu.Init(lockdep.Leaf)
	conn, err := d.file.SyscallConn()
	if err != nil || d.file.SetDeadline(time.Time{}) != nil { // the poller cannot use it
		d.close()
		return nil
	}
	d.conn = conn
	d.buffers.New = func() any { return new([bufferSize]byte) }
	// The kernel has sent its first message to go-fuse's server. Repeat it
	// here.
	hello, err := binary.Append(nil, binary.NativeEndian, kernel)
	if err == nil {
		if _, status := d.handler.HandleRequest([][]byte{hello}, [][]byte{make([]byte, 1<<12)}); !status.Ok() {
			err = fmt.Errorf("status %v", status)
		}
	}
	if err != nil {
		log.Warn("requests are read by go-fuse", "err", err)
		d.close()
		return nil
	}
	return d
}

// serve answers requests until the connection ends.
func (d *device) serve() {
	d.readers.Go(d.read)
	d.readers.Wait()
}

// read runs on the goroutines that read and answer requests. One of them waits
// for a request, and there is one more for each request that is being answered.
func (d *device) read() {
	for {
		buf := d.buffers.Get().(*[bufferSize]byte)
		d.idle.Add(1)
		n, err := d.next(buf)
		others := d.idle.Add(-1)
		switch {
		case err == nil:
			if others == 0 {
				d.readers.Go(d.read)
			}
			for n > 0 {
				d.answer(buf, n)
				buf = d.buffers.Get().(*[bufferSize]byte)
				n = d.linger(buf, lingerTime)
			}
			d.buffers.Put(buf)
			if d.idle.Load() > 0 {
				return
			}
		case errors.Is(err, unix.ENOENT): // the client was interrupted in the meantime
			d.buffers.Put(buf)
		default:
			d.buffers.Put(buf)
			if !d.ended() { // the poller's error does not say if it is the end
				d.log.Warn("read from the kernel", "err", err)
				return
			}
			d.interruptAll()
			return
		}
	}
}

// next waits in the poller for a request. It returns the request's length in
// the buffer.
func (d *device) next(buf *[bufferSize]byte) (n int, err error) {
	waitErr := d.conn.Read(func(fd uintptr) (done bool) {
		n, err = readRequest(int(fd), buf)
		return !errors.Is(err, unix.EAGAIN)
	})
	if waitErr != nil {
		return 0, waitErr
	}
	return n, err
}

// readRequest reads a request, if there is one, and returns how much of it is
// in the buffer. At the end of a pipe, which tests use as a connection, it
// returns EOF.
func readRequest(fd int, buf *[bufferSize]byte) (int, error) {
	rest, err := spill()
	if err != nil {
		return 0, err
	}
	for {
		n, err := unix.Readv(fd, [][]byte{buf[:], rest})
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return min(n, len(buf)), nil
	}
}

// lingerTime is how long a reader waits in a system call for the next request
// of the same client. Reading a file, for example, takes three requests. If all
// processors compute, the poller would report each of them after 10 ms. Only
// one reader lingers, so lingering costs one processor this long at the end of
// a series of requests.
const lingerTime = 200 * time.Microsecond

// linger returns the length of another request, or 0 if none comes soon. atMost
// must be less than a second.
func (d *device) linger(buf *[bufferSize]byte, atMost time.Duration) (n int) {
	if !d.lingers.CompareAndSwap(false, true) {
		return 0
	}
	defer d.lingers.Store(false)
	_ = d.conn.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if ready, err := unix.Ppoll(poll, &unix.Timespec{Nsec: atMost.Nanoseconds()}, nil); err == nil && ready > 0 {
			n, _ = readRequest(int(fd), buf) // another reader may have been faster
		}
	})
	return n
}

// Parts of FUSE's protocol: headers and one request.
const (
	requestHeader = 40
	offOpcode     = 4
	offUnique     = 8 // the number of a request, also in its reply
	replyHeader   = 16
	offStatus     = 4
	offSize       = 56 // of the data that is requested
	opRead        = 15
	opWrite       = 16
	opReaddir     = 28
	opInterrupt   = 36
	opReaddirplus = 44
)

// A Store may wait for long, and thousands may wait at once. So a write keeps
// only the data that a Store can get, not a whole buffer.
const (
	shortWrite = 1<<12 + sysfs.PageSize
	writeReply = 1 << 6 // more than the length of its reply
)

// answer answers the request of n bytes in buf, and returns buf to the pool.
func (d *device) answer(buf *[bufferSize]byte, n int) {
	if n < requestHeader {
		d.buffers.Put(buf)
		d.log.Warn("a request without a header", "bytes", n)
		return
	}
	in, out := d.room(buf, n)
	if &in[0] == &buf[0] {
		defer d.buffers.Put(buf)
	} else {
		d.buffers.Put(buf)
	}
	unique := binary.NativeEndian.Uint64(in[offUnique:])
	if !d.begin(unique) {
		return
	}
	defer d.end(unique)
	n, status := d.handle(in, out)
	if !status.Ok() { // go-fuse did not understand it
		n = replyHeader
		binary.NativeEndian.PutUint32(out, replyHeader)
		binary.NativeEndian.PutUint32(out[offStatus:], uint32(-status))
		binary.NativeEndian.PutUint64(out[offUnique:], unique)
	}
	if n == 0 {
		return
	}
	// ENOENT means that the client was interrupted or the mount is gone.
	if err := d.write(out[:n]); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		d.log.Warn("write to the kernel", "err", err)
	}
}

// room returns the memory for the request of n bytes in buf while it is
// answered, and for its reply.
func (d *device) room(buf *[bufferSize]byte, n int) (in, out []byte) {
	in = buf[:n]
	switch binary.NativeEndian.Uint32(in[offOpcode:]) {
	case opWrite:
		if n > shortWrite {
			in = in[:shortWrite] // a Store gets no more
		}
		return slices.Clone(in), make([]byte, writeReply)
	case opRead, opReaddir, opReaddirplus:
		if n < offSize+4 {
			break
		}
		// With fusermount3 the kernel may ask for more than a buffer.
		if asked := binary.NativeEndian.Uint32(in[offSize:]); asked > maxRead && asked <= maxWrite {
			return in, make([]byte, asked+1<<12)
		}
	}
	return in, buf[min((n+7)&^7, len(buf)):]
}

// begin reports whether a request may begin. After the end of the connection
// none may, because nothing would interrupt it.
func (d *device) begin(unique uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.lost {
		d.inFlight[unique] = false
	}
	return !d.lost
}

func (d *device) end(unique uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.inFlight, unique)
}

// handle lets go-fuse answer a request. If the request interrupts another one,
// handle records that.
func (d *device) handle(in, out []byte) (int, fuse.Status) {
	n, status := d.handler.HandleRequest([][]byte{in}, [][]byte{out})
	if n == 0 && status.Ok() && binary.NativeEndian.Uint32(in[offOpcode:]) == opInterrupt {
		// If there is a reply, the other request has not begun, has
		// ended, or was interrupted before.
		other := binary.NativeEndian.Uint64(in[requestHeader:])
		d.mu.Lock()
		if _, ok := d.inFlight[other]; ok {
			d.inFlight[other] = true
		}
		d.mu.Unlock()
	}
	return n, status
}

// write writes a reply or a notification. It does not use os.File.Write,
// because then replies would wait for a notification that waits for one of
// them.
func (d *device) write(b []byte) (err error) {
	if cerr := d.conn.Control(func(fd uintptr) { _, err = unix.Write(int(fd), b) }); cerr != nil {
		return cerr
	}
	return err
}

// ended reports whether the connection has ended.
func (d *device) ended() (yes bool) {
	return d.conn.Control(func(fd uintptr) { yes = ended(int(fd)) }) == nil && yes
}

// interruptAll interrupts all requests that are being answered, because no
// client waits for their replies any more. It also prevents new ones. The
// kernel would interrupt them one by one.
func (d *device) interruptAll() {
	d.mu.Lock()
	before := d.lost
	d.lost = true
	d.mu.Unlock()
	if before {
		return
	}
	in := make([]byte, requestHeader+8)
	out := make([]byte, replyHeader)
	binary.NativeEndian.PutUint32(in, uint32(len(in)))
	binary.NativeEndian.PutUint32(in[offOpcode:], opInterrupt)
	for {
		var left []uint64
		d.mu.Lock()
		for unique, interrupted := range d.inFlight {
			if !interrupted {
				left = append(left, unique)
			}
		}
		d.mu.Unlock()
		if len(left) == 0 {
			return
		}
		for _, unique := range left {
			binary.NativeEndian.PutUint64(in[requestHeader:], unique)
			d.handle(in, out)
		}
		time.Sleep(time.Millisecond)
	}
}

// close releases the descriptor.
func (d *device) close() {
	_ = d.file.Close() // it may be nil
}
