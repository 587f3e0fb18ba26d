package fusefs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/internal/leaktest"
	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// Op is short for what tests tell a client.
type Op = testclient.Op

// serveEnv makes the test binary a server of fixture() on the directory it
// names. It says "ready", or why not, and serves until it is killed.
const serveEnv = "FUSEFS_TEST_SERVE"

// plainEnv says that locks are what they are in a program, for inPlainChild.
const plainEnv = "FUSEFS_TEST_PLAIN"

// inPlainChild runs the test in a process where locks are what they are in a
// program, and reports whether this is that process.
func inPlainChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(plainEnv) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), plainEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

func TestMain(m *testing.M) {
	testclient.Main()
	if dir := os.Getenv(serveEnv); dir != "" {
		serveChild(dir)
	}
	if os.Getenv(plainEnv) == "" {
		lockdep.UseCond() // so that synctest sees who waits
	}
	os.Exit(lockdep.Status(m.Run()))
}

func serveChild(dir string) {
	o := Options{AllowOther: os.Getenv("ALLOW_OTHER") != "", AbortOnPanic: true}
	if os.Getenv("NO_CACHE") != "" {
		o.AttrTimeout, o.EntryTimeout = NoCache, NoCache
	}
	x := newFixture()
	s, err := Mount(dir, x.tree, o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if os.Getenv("ON_SIGNAL") != "" {
		s.UnmountOnSignal()
	}
	fmt.Println("ready")
	if os.Getenv("CHURN") != "" { // whatever is opened is about to be removed
		go func() {
			for {
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				x.cache.Remove()
				x.tree.Root().Child("alias-cache").(*sysfs.Link).Remove()
				x.add("cache")
			}
		}()
	}
	if os.Getenv("ON_SIGNAL") != "" {
		<-s.Done()
		os.Exit(0)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test goes away or closes it
	if err := s.Unmount(context.Background()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fixture is a tree with one file of each kind.
type fixture struct {
	tree    *sysfs.Tree
	cache   *sysfs.Kobject // /cache
	value   atomic.Uint64  // what /cache/value shows
	shows   atomic.Int64   // Shows of /cache/count
	stores  atomic.Int64   // Stores that are waiting in /cache/wait
	reads   atomic.Int64   // Shows that are waiting in /cache/wait
	release chan struct{}  // ends one wait for each element, all when closed
}

func newFixture() *fixture {
	x := &fixture{tree: sysfs.NewTree(), release: make(chan struct{})}
	x.value.Store(120)
	x.add("cache")
	return x
}

// add makes one more directory like /cache, with a link to it.
func (x *fixture) add(name string) *sysfs.Kobject {
	wait := func(ctx context.Context, n *atomic.Int64) error {
		n.Add(1)
		defer n.Add(-1)
		select {
		case <-x.release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fixed := func(s string) func(context.Context, any, *bytes.Buffer) error {
		return func(_ context.Context, _ any, w *bytes.Buffer) error { w.WriteString(s); return nil }
	}
	nothing := func(context.Context, any, []byte) error { return nil }
	k, err := x.tree.Root().Add(name, x,
		&sysfs.Attribute{
			Name: "value", Mode: 0o600,
			Show: func(_ context.Context, _ any, w *bytes.Buffer) error {
				_, err := fmt.Fprintln(w, x.value.Load())
				return err
			},
			Store: func(_ context.Context, _ any, data []byte) error {
				v, err := sysfs.ParseUint(data, 32)
				if err == nil {
					x.value.Store(v)
				}
				return err
			},
		},
		&sysfs.Attribute{Name: "ro", Mode: 0o400, Show: fixed("fixed\n")},
		&sysfs.Attribute{Name: "wo", Mode: 0o200, Store: nothing},
		&sysfs.Attribute{Name: "empty", Mode: 0o600, Show: fixed(""), Store: nothing},
		&sysfs.Attribute{
			Name: "count", Mode: 0o444,
			Show: func(_ context.Context, _ any, w *bytes.Buffer) error {
				_, err := fmt.Fprintf(w, "generation %d\n", x.shows.Add(1))
				return err
			},
		},
		&sysfs.Attribute{Name: "long", Mode: 0o400, Show: fixed(strings.Repeat("x", 10000))},
		&sysfs.Attribute{Name: "seq", Mode: 0o400, Show: fixed(strings.Repeat("0123456789\n", 20000)), Seq: true},
		&sysfs.Attribute{
			Name: "wait", Mode: 0o600,
			Show: func(ctx context.Context, _ any, w *bytes.Buffer) error {
				w.WriteString("waited\n")
				return wait(ctx, &x.reads)
			},
			Store: func(ctx context.Context, _ any, _ []byte) error { return wait(ctx, &x.stores) },
		},
		&sysfs.Attribute{ // waits whatever happens to the client
			Name: "stubborn", Mode: 0o600,
			Show: func(_ context.Context, _ any, w *bytes.Buffer) error {
				w.WriteString("stubborn\n")
				return wait(context.Background(), &x.reads)
			},
			Store: func(context.Context, any, []byte) error { return wait(context.Background(), &x.stores) },
		},
		&sysfs.Attribute{
			Name: "errno", Mode: 0o600,
			Show: func(context.Context, any, *bytes.Buffer) error { return errors.New("no number") },
			Store: func(_ context.Context, _ any, data []byte) error {
				v, err := sysfs.ParseUint(data, 32)
				if err != nil {
					return err
				}
				return syscall.Errno(v)
			},
		},
		&sysfs.Attribute{
			Name: "panic", Mode: 0o600,
			Show:  func(context.Context, any, *bytes.Buffer) error { panic("on purpose") },
			Store: nothing,
		},
	)
	if err != nil {
		panic(err)
	}
	if _, err := x.tree.Root().Link("alias-"+name, k); err != nil {
		panic(err)
	}
	if name == "cache" {
		x.cache = k
	}
	return k
}

// attr returns the definition of /cache/name.
func (x *fixture) attr(tb testing.TB, name string) *sysfs.Attribute {
	tb.Helper()
	f, ok := x.cache.Child(name).(*sysfs.File)
	if !ok {
		tb.Fatalf("no file %s", name)
	}
	return f.Attr()
}

// mountDir returns a new directory that every user can reach.
func mountDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "fusefs-")
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			tb.Errorf("remove the mount point: %v", err)
		}
	})
	return dir
}

// serving counts the servers of the test that runs.
var serving atomic.Int32

// serve mounts t for the test. If the test has not unmounted it, it is
// unmounted at the end, which must work. No goroutine may be left.
func serve(tb testing.TB, t *sysfs.Tree, o Options) *Server {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root to mount")
	}
	before := leaktest.Take()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s, err := Mount(mountDir(tb), t, o)
	if err != nil {
		tb.Fatal(err)
	}
	serving.Add(1)
	tb.Cleanup(func() {
		// Servers start readers all the time; and whoever has a copy of a detached
		// mount, other tests too, keeps its readers.
		if serving.Add(-1) > 0 || errors.Is(s.Err(), ErrDetached) {
			return
		}
		if err := before.Left(); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		select {
		case <-s.Done():
			return
		default:
		}
		if err := s.Unmount(patiently(tb)); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// patiently is for an Unmount that must succeed: whoever copies the mount namespace, other
// tests too, has a copy of each mount for a while.
func patiently(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// at returns a path of the mount.
func (s *Server) at(elem ...string) string {
	return filepath.Join(append([]string{s.Dir()}, elem...)...)
}

// eventually waits until cond holds.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("did not happen: %s", what)
		}
	}
}

// A child serves fixture() on a directory, in another process.
type child struct {
	cmd  *exec.Cmd
	says string // first line
	in   io.Closer
	out  *bufio.Reader
}

func startChild(tb testing.TB, dir string, uid int, extraEnv ...string) *child {
	tb.Helper()
	return startChildIn(tb, 0, dir, uid, extraEnv...)
}

// startChildIn is startChild with new namespaces.
func startChildIn(tb testing.TB, namespaces uintptr, dir string, uid int, extraEnv ...string) *child {
	tb.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	cmd.Env = append(append(os.Environ(), serveEnv+"="+dir), extraEnv...)
	cmd.Stderr = os.Stderr
	if uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
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
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = unix.Unmount(dir, unix.MNT_DETACH) // if it was still there
	})
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	line, err := c.out.ReadString('\n')
	if err != nil {
		tb.Fatalf("serving child: %v", err)
	}
	c.says = strings.TrimSpace(line)
	return c
}
