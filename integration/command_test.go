package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
)

type Op = testclient.Op

// patience is how long things may take that take no time on an idle machine.
const patience = time.Minute

// A user starts commands and clients.
type user struct {
	uid   int
	env   []string // of the command, besides that of the test
	shell string   // what a shell does before it becomes the command
}

var root = user{}

// needRoot skips tests that mount, or become another user.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
}

// needProgram returns the path of a program of others. Where it is missing the
// test is skipped, but not in CI, which installs them all.
func needProgram(t *testing.T, name, how string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("needs %s (%s): %v", name, how, err)
	}
	t.Skipf("needs %s (%s)", name, how)
	return ""
}

func (u user) client(t testing.TB) *testclient.Client {
	t.Helper()
	return testclient.Start(t, testclient.Options{UID: u.uid})
}

// command is the command, as this user runs it.
func (u user) command(args ...string) *exec.Cmd {
	c := exec.Command(binary, args...)
	if u.shell != "" {
		c = exec.Command("sh", append([]string{"-c", u.shell + `; exec "$0" "$@"`, binary}, args...)...)
	}
	c.Dir = "/"
	c.Env = append(os.Environ(), u.env...)
	if u.uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.uid)}}
	}
	return c
}

// run runs the command to its end.
func (u user) run(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return finish(t, u.command(args...))
}

// finish runs a command to its end.
func finish(t testing.TB, c *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	err := c.Wait()
	if !timer.Stop() {
		t.Fatalf("slabfs %q did not end within %v: %s%s", c.Args[1:], patience, &out, &errs)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

var mountPoints atomic.Int64

// newDir returns a directory to mount on, which belongs to the user and is there
// only if it is to be.
func (u user) newDir(t testing.TB, make bool) string {
	t.Helper()
	parent := filepath.Join(tmp, fmt.Sprint(mountPoints.Add(1)))
	dir := filepath.Join(parent, "mnt")
	err := os.Mkdir(parent, 0o755)
	if make {
		err = errors.Join(err, os.Mkdir(dir, 0o755), os.Chown(dir, u.uid, u.uid))
	}
	if err := errors.Join(err, os.Chown(parent, u.uid, u.uid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what a failed test leaves
		for mounted(t, dir) {
			t.Errorf("%s is still mounted", dir)
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
				break
			}
		}
	})
	return dir
}

// A server is a command that serves in the foreground.
type server struct {
	t     testing.TB
	user  user
	cmd   *exec.Cmd
	dir   string
	ready string        // what it said when it was ready, "" if it never was
	ended chan struct{} // closed when it has ended
	out   buffer        // standard output after that
	errs  buffer        // standard error
}

// mount starts the command on a directory, waits until it is ready, and ends it
// with the test, which must work.
func (u user) mount(t testing.TB, dir string, flags ...string) *server {
	t.Helper()
	s := &server{t: t, user: u, dir: dir, ended: make(chan struct{})}
	s.out.mu.Init(lockdep.Leaf)
	s.errs.mu.Init(lockdep.Leaf)
	s.cmd = u.command(append([]string{"mount", dir}, flags...)...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = &s.errs
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		ready <- line
		_, _ = io.Copy(&s.out, r)
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		switch {
		case s.over():
		case t.Failed():
			s.signal(unix.SIGQUIT) // shows where it hangs, if it does
			<-s.ended
		default:
			s.signal(unix.SIGTERM)
			s.wantStatus(0)
		}
		if t.Failed() {
			t.Logf("%s: standard error:\n%s", dir, s.errs.String())
		}
	})
	select {
	case s.ready = <-ready:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		t.Fatalf("slabfs mount %s was not ready within %v: %s", dir, patience, s.errs.String())
	}
	if s.ready == "" {
		<-s.ended
		t.Fatalf("slabfs mount %s: status %d: %s", dir, s.cmd.ProcessState.ExitCode(), s.errs.String())
	}
	return s
}

func (s *server) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *server) signal(sig unix.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("signal %v: %v", sig, err)
	}
}

// wantStatus waits for the end of the server.
func (s *server) wantStatus(want int) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.signal(unix.SIGQUIT) // shows where it hangs
		select {
		case <-s.ended:
		case <-time.After(patience):
			_ = s.cmd.Process.Kill()
		}
		s.t.Fatalf("%s: the server did not end within %v:\n%s", s.dir, patience, s.errs.String())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != want {
		s.t.Errorf("%s: exit status %d (%v); want %d; standard error:\n%s", s.dir, got, s.cmd.ProcessState, want, s.errs.String())
	}
}

// kill ends the server as it should not be ended.
func (s *server) kill() {
	s.t.Helper()
	s.signal(unix.SIGKILL)
	<-s.ended
}

// path returns a path of the mount.
func (s *server) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// attr returns the path of a cache's file.
func (s *server) attr(cache, name string) string {
	return s.path("sys/kernel/slab", cache, name)
}

// module returns the path of a file of sys/module/slabfs.
func (s *server) module(name string) string { return s.path("sys/module/slabfs", name) }

// A buffer collects output of a process that may still run.
type buffer struct {
	mu lockdep.Mutex
	b  bytes.Buffer // mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen within %v: %s", patience, what)
		}
	}
}

func exists(t testing.TB, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// cat returns the content of a file, which must be readable.
func cat(c *testclient.Client, path string) string {
	return string(c.OK(Op{Do: "cat", Path: path}).Data)
}

// echo writes as a shell does, which must work.
func echo(c *testclient.Client, path, text string) {
	c.OK(Op{Do: "echo", Path: path, Data: []byte(text + "\n")})
}

// echoWant writes as a shell does, which must fail.
func echoWant(c *testclient.Client, errno unix.Errno, path, text string) {
	c.Want(errno, Op{Do: "echo", Path: path, Data: []byte(text + "\n")})
}

// wantLine checks a message: one line, lower case, about these things.
func wantLine(t testing.TB, what, got string, about ...string) {
	t.Helper()
	line, rest, found := strings.Cut(got, "\n")
	first := strings.TrimPrefix(line, "slabfs: ")
	if !found || rest != "" || first == "" || strings.ToLower(first[:1]) != first[:1] {
		t.Errorf("%s: %q; want one line that begins in lower case", what, got)
	}
	for _, s := range about {
		if !strings.Contains(line, s) {
			t.Errorf("%s: %q; want %q in it", what, line, s)
		}
	}
}
