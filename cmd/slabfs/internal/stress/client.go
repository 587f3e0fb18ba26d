package stress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A request asks a client for one operation. A client has at most one descriptor open.
type request struct {
	Do   string // see serve
	Path string `json:",omitempty"`
	Data string `json:",omitempty"`
}

// A reply is the result of the operation.
type reply struct {
	Errno syscall.Errno `json:",omitempty"`
	Data  string        `json:",omitempty"`
}

// serve performs the operations that a stress run sends on in, and answers on
// out, until in ends. It is the main function of a client process.
func serve(in io.Reader, out io.Writer) error {
	var c desk
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q request
		if err := dec.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("stress client: read request: %w", err)
		}
		data, err := c.serve(q)
		r := reply{Data: string(data)}
		if err != nil && !errors.As(err, &r.Errno) {
			return fmt.Errorf("stress client: %w", err)
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("stress client: answer: %w", err)
		}
	}
}

// A desk is the state of a client: its open descriptor, and a buffer to read
// into.
type desk struct {
	fd  int
	buf [64 << 10]byte
}

func (d *desk) serve(q request) ([]byte, error) {
	switch q.Do {
	case "open": // for reading
		return nil, d.open(q.Path, unix.O_RDONLY)
	case "openw":
		return nil, d.open(q.Path, unix.O_WRONLY)
	case "write":
		return nil, d.write(d.fd, q.Data)
	case "read": // from the start
		n, err := again(func() (int, error) { return unix.Pread(d.fd, d.buf[:], 0) })
		return d.buf[:max(n, 0)], err
	case "close":
		return nil, unix.Close(d.fd)
	case "echo": // as a shell does
		fd, err := again(func() (int, error) {
			return unix.Open(q.Path, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		return nil, d.write(fd, q.Data)
	case "cat":
		return d.all(q.Path, unix.O_RDONLY, unix.Read)
	case "list": // the names, one a line
		entries, err := d.all(q.Path, unix.O_RDONLY|unix.O_DIRECTORY, unix.ReadDirent)
		_, _, names := unix.ParseDirent(entries, -1, nil)
		slices.Sort(names)
		return []byte(strings.Join(names, "\n")), err
	}
	return nil, fmt.Errorf("unknown request %q", q.Do)
}

func (d *desk) open(path string, flags int) (err error) {
	d.fd, err = again(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
	return err
}

func (d *desk) write(fd int, data string) error {
	n, err := again(func() (int, error) { return unix.Write(fd, []byte(data)) })
	if err == nil && n != len(data) {
		return fmt.Errorf("wrote %d bytes of %q", n, data)
	}
	return err
}

// all returns everything that read returns for path.
func (d *desk) all(path string, flags int, read func(fd int, p []byte) (int, error)) ([]byte, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var data bytes.Buffer
	for {
		n, err := again(func() (int, error) { return read(fd, d.buf[:]) })
		if n <= 0 {
			return data.Bytes(), err
		}
		data.Write(d.buf[:n])
	}
}

// again repeats a call that a signal interrupted: the Go runtime sends signals
// to itself.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// A client is the world's side of a client process.
type client struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
	dead chan struct{} // closed when the process has ended
}

// errClient means that the client process is gone.
var errClient = errors.New("the client process is gone")

// startClient runs this program again with args, which must make it call Serve.
// The client inherits descriptor 3 and the process group of the world: see
// launch.go.
func startClient(args []string) (*client, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	cmd := exec.Command(exe, append(slices.Clone(args), "client")...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	c := &client{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out), dead: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // and there is nothing more to read
		close(c.dead)
	}()
	return c, nil
}

// do makes the client perform one operation.
func (c *client) do(q request) (string, error) {
	var r reply
	if err := c.enc.Encode(q); err != nil {
		return "", fmt.Errorf("%w: %w", errClient, err)
	}
	if err := c.dec.Decode(&r); err != nil {
		return "", fmt.Errorf("%w: %w", errClient, err)
	}
	if r.Errno != 0 {
		return r.Data, r.Errno
	}
	return r.Data, nil
}

// stop ends the process, which must be idle.
func (c *client) stop() { c.in.Close() }

// kill ends the process without waiting, because it may hang in the kernel.
func (c *client) kill() { _ = c.cmd.Process.Kill() }

// gone reports whether the process ends within d.
func (c *client) gone(d time.Duration) bool {
	select {
	case <-c.dead:
		return true
	case <-time.After(d):
		return false
	}
}
