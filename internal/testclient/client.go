package testclient

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
)

// Nobody is a user and group without privileges.
const Nobody = 65534

// patience is how long an operation may take that should not block at all.
const patience = time.Minute

// Options of a client.
type Options struct {
	UID        int    // user and group; 0: the same as the test
	Namespace  string // if not empty: run in a copy of the mount namespace, as a container does, with only this slabfs mount
	GOMAXPROCS string
}

// A Client is a child process that performs operations.
type Client struct {
	tb  testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      lockdep.Mutex
	last    int              // mu
	pending map[int]*Pending // mu
	dead    chan struct{}    // closed when the child's output has ended
}

// A Pending operation has begun, and may have ended.
type Pending struct {
	c     *Client
	op    Op
	begun chan Reply
	end   chan Reply
}

// Start starts a client, which ends with the test at the latest. A client that
// hangs in the kernel is abandoned.
func Start(tb testing.TB, o Options) *Client {
	tb.Helper()
	// Not the path of the binary: another user may not be allowed to reach
	// it.
	cmd := exec.Command("/proc/self/exe")
	// Unlike other programs, the runtime would interrupt operations with
	// its own signals.
	cmd.Env = append(os.Environ(), env+"=1", "GODEBUG="+strings.TrimPrefix(os.Getenv("GODEBUG")+",asyncpreemptoff=1", ","))
	if o.GOMAXPROCS != "" {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+o.GOMAXPROCS)
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if o.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.UID)}
	}
	if o.Namespace != "" {
		cmd.Env = append(cmd.Env, keepEnv+"="+o.Namespace)
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start test client: %v", err)
	}
	c := &Client{tb: tb, cmd: cmd, in: in, pending: make(map[int]*Pending), dead: make(chan struct{})}
	c.mu.Init(lockdep.Leaf)
	go c.receive(out)
	tb.Cleanup(c.Kill)
	c.OK(Op{Do: "sync"})
	return c
}

func (c *Client) receive(out io.Reader) {
	defer close(c.dead)
	for d := json.NewDecoder(out); ; {
		var r Reply
		if d.Decode(&r) != nil {
			return
		}
		c.mu.Lock()
		p := c.pending[r.ID]
		if !r.Begun {
			delete(c.pending, r.ID)
		}
		c.mu.Unlock()
		if r.Begun {
			p.begun <- r
		} else {
			p.end <- r
		}
	}
}

// PID returns the process ID of the client.
func (c *Client) PID() int { return c.cmd.Process.Pid }

// Kill kills the client and waits for a while until it is gone.
func (c *Client) Kill() {
	_ = c.cmd.Process.Kill()
	select {
	case <-c.dead:
		_ = c.cmd.Wait()
	case <-time.After(5 * time.Second):
		c.tb.Logf("client %d does not die: it hangs in the kernel", c.PID())
	}
}

// Go begins an operation and returns once the client is about to perform it.
func (c *Client) Go(op Op) *Pending {
	c.tb.Helper()
	c.mu.Lock()
	c.last++
	op.ID = c.last
	p := &Pending{c: c, op: op, begun: make(chan Reply, 1), end: make(chan Reply, 1)}
	c.pending[op.ID] = p
	line, err := json.Marshal(op)
	if err == nil {
		_, err = c.in.Write(append(line, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		c.tb.Fatalf("%s: client: %v", op.Do, err)
	}
	return p
}

// Do performs an operation that does not block.
func (c *Client) Do(op Op) Reply {
	c.tb.Helper()
	return c.Go(op).Wait()
}

// OK is Do for an operation that must succeed.
func (c *Client) OK(op Op) Reply {
	c.tb.Helper()
	r := c.Do(op)
	if r.Errno != 0 {
		c.tb.Fatalf("%s %s: %v; want success", op.Do, op.Path, r.Errno)
	}
	return r
}

// Want is Do for an operation that must fail with errno.
func (c *Client) Want(errno unix.Errno, op Op) {
	c.tb.Helper()
	if r := c.Do(op); r.Errno != errno {
		c.tb.Errorf("%s %s: errno %d (%v); want %d (%v)", op.Do, op.Path, int(r.Errno), r.Errno, int(errno), errno)
	}
}

// TID returns the ID of the thread that performs the operation.
func (p *Pending) TID() int {
	p.c.tb.Helper()
	select {
	case r := <-p.begun:
		p.begun <- r
		return r.TID
	case <-time.After(patience):
		p.c.tb.Fatalf("%s %s did not begin", p.op.Do, p.op.Path)
		return 0
	}
}

// Interrupt sends the thread a signal that does nothing, except that a system
// call ends with EINTR if it can.
func (p *Pending) Interrupt() {
	p.c.tb.Helper()
	if err := unix.Tgkill(p.c.PID(), p.TID(), unix.SIGURG); err != nil {
		p.c.tb.Fatalf("interrupt: %v", err)
	}
}

// Wait returns the reply.
func (p *Pending) Wait() Reply {
	p.c.tb.Helper()
	r, ok := p.Try(patience)
	if !ok {
		p.c.tb.Fatalf("%s %s did not end within %v", p.op.Do, p.op.Path, patience)
	}
	return r
}

// Try returns the reply, if it comes within d.
func (p *Pending) Try(d time.Duration) (r Reply, ok bool) {
	p.c.tb.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case r = <-p.end:
	case <-timer.C:
		return Reply{}, false
	case <-p.c.dead:
		select {
		case r = <-p.end:
		default:
			return Reply{Err: "client is dead"}, true
		}
	}
	p.end <- r // Wait and Try may be called again
	if r.Err != "" {
		p.c.tb.Fatalf("%s %s: client: %s", p.op.Do, p.op.Path, r.Err)
	}
	return r, true
}
