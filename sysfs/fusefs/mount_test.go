package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

func TestToErrno(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want fuse.Status
	}{
		{nil, fuse.OK},
		{sysfs.ErrSyntax, fuse.EINVAL},
		{sysfs.ErrInvalid, fuse.EINVAL},
		{sysfs.ErrRange, fuse.ERANGE},
		{sysfs.ErrGone, fuse.ENODEV},
		{sysfs.ErrExist, fuse.Status(syscall.EEXIST)},
		{sysfs.ErrNoMethod, fuse.EIO},
		{context.Canceled, fuse.EINTR},
		{fs.ErrNotExist, fuse.ENOENT},
		{fs.ErrExist, fuse.Status(syscall.EEXIST)},
		{fs.ErrPermission, fuse.EPERM},
		{syscall.EBUSY, fuse.EBUSY},
		{syscall.Errno(0), fuse.EIO},
		{syscall.Errno(511), fuse.Status(511)},
		{syscall.Errno(512), fuse.EIO},
		{errors.New("other"), fuse.EIO},
		{io.ErrUnexpectedEOF, fuse.EIO},
	} {
		err := tc.err
		if err != nil {
			err = fmt.Errorf("store: %w", fmt.Errorf("set: %w", err))
		}
		if got := toErrno(err); got != tc.want {
			t.Errorf("toErrno(%v) = %v; want %v", err, got, tc.want)
		}
	}
}

func TestTimeout(t *testing.T) {
	for _, tc := range []struct{ in, want time.Duration }{
		{0, time.Second}, {NoCache, 0}, {time.Millisecond, time.Millisecond}, {time.Second, time.Second}, {time.Hour, time.Second},
	} {
		if got := timeout(tc.in); got != tc.want {
			t.Errorf("timeout(%v) = %v; want %v", tc.in, got, tc.want)
		}
	}
}

func TestMountOptions(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	tr := sysfs.NewTree()
	for _, option := range []string{"nonsense", "nonsense=1"} {
		_, err := Mount(t.TempDir(), tr, Options{MountOptions: []string{"ro", option}})
		if want := fmt.Sprintf("%q", option); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), `"ro"`) {
			t.Errorf("mount with an unknown option: %v; want EINVAL and %s", err, want)
		}
	}
	for _, o := range [][]string{{"ro"}, {"rw", "dev", "suid", "allow_other"}} {
		s := serve(t, tr, Options{MountOptions: o})
		m, err := topMount(s.Dir())
		if err != nil || !strings.Contains(m.Options, "nosuid,nodev,noexec") || !strings.HasPrefix(m.VFSOptions, o[0]) {
			t.Errorf("mount with %q: %+v, %v; want nosuid,nodev,noexec all the same, and %s", o, m, err, o[0])
		}
	}
	s := serve(t, tr, Options{})
	if _, err := Mount(s.Dir(), tr, Options{}); !errors.Is(err, ErrMounted) {
		t.Errorf("mount where a live one is: %v; want %v", err, ErrMounted)
	}
}

func TestExplain(t *testing.T) {
	for _, tc := range []struct {
		err        error
		root, open bool
		want       string
	}{
		{unix.EPERM, true, true, "CAP_SYS_ADMIN"},
		{unix.EACCES, true, true, "CAP_SYS_ADMIN"},
		{unix.EINVAL, true, true, `mount option "context"`},
		{unix.EIO, true, true, "input/output error"},
		{fmt.Errorf("fusermount3: %w", exec.ErrNotFound), false, false, "install fuse3"},
		{errors.New("fusermount exited with code 256\n"), false, true, "code 256: allow_other needs the line user_allow_other in /etc/fuse.conf"},
	} {
		if os.Geteuid() != 0 {
			t.Skip("needs root, to whom /dev/fuse is open")
		}
		if err := explain(tc.err, tc.root, tc.open, []string{"context"}); !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("explain(%v) = %v; want one line with %q", tc.err, err, tc.want)
		}
	}
}

// A child of the server that inherited /dev/fuse would keep a dead mount alive.
func TestCloseOnExec(t *testing.T) {
	serve(t, sysfs.NewTree(), Options{})
	out, err := exec.Command("ls", "-l", "/proc/self/fd").CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("/dev/fuse")) {
		t.Errorf("descriptors of a child: %v\n%s", err, out)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		found = found || target == "/dev/fuse"
	}
	if !found {
		t.Error("this process has no /dev/fuse open; the test shows nothing")
	}
}

func TestUnmount(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	var order []string
	s.OnEnd(func() {
		select {
		case <-s.Done():
			t.Error("Done is closed before the functions of OnEnd ran")
		default:
		}
		order = append(order, "first")
	})
	s.OnEnd(func() { order = append(order, "second") })
	c := testclient.Start(t, testclient.Options{})
	c.OK(Op{Do: "cat", Path: s.at("cache", "value")})
	for range 2 {
		if err := s.Unmount(patiently(t)); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}
	<-s.Done()
	if s.Err() != nil {
		t.Errorf("Err after Unmount = %v; want nil", s.Err())
	}
	s.OnEnd(func() { order = append(order, "late") })
	if got := strings.Join(order, " "); got != "first second late" {
		t.Errorf("functions of OnEnd ran: %s; want first second late", got)
	}
	if m, err := topMount(s.Dir()); m != nil || err != nil {
		t.Errorf("after Unmount: %+v, %v; want no mount", m, err)
	}
	x.cache.Remove() // has nobody to notify
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// What is in use at the deadline is detached: gone from the name space, and its
// users reach no Show and no Store any more.
func TestUnmountInUse(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "value"), Flags: unix.O_RDWR}).FD
	ended := make(chan struct{})
	s.OnEnd(func() { close(ended) })
	if err := s.Unmount(shortly(t)); !errors.Is(err, ErrDetached) {
		t.Errorf("unmount of a busy mount: %v; want %v", err, ErrDetached)
	}
	<-ended
	if m, err := topMount(s.Dir()); m != nil || err != nil {
		t.Errorf("after Unmount: %+v, %v; want no mount", m, err)
	}
	c.Want(unix.ENODEV, Op{Do: "read", FD: fd, Size: 10})
	c.Want(unix.ENODEV, Op{Do: "write", FD: fd, Data: []byte("5")})
	c.Want(unix.ENOENT, Op{Do: "stat", Path: s.at("cache")})
	if x.value.Load() != 120 {
		t.Errorf("value = %d; want 120", x.value.Load())
	}
	// The place is free for another mount.
	again, err := Mount(s.Dir(), x.tree, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.OK(Op{Do: "cat", Path: s.at("cache", "value")})
	if err := again.Unmount(patiently(t)); err != nil {
		t.Error(err)
	}
}

// A use that ends in time is waited for.
func TestUnmountRetries(t *testing.T) {
	s := serve(t, newFixture().tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "value"), Flags: unix.O_RDWR}).FD
	time.AfterFunc(50*time.Millisecond, func() { c.Go(Op{Do: "close", FD: fd}) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Unmount(ctx); err != nil {
		t.Errorf("unmount: %v; want success once the descriptor is closed", err)
	}
}

// A store that never ends does not keep Unmount.
func TestUnmountDespiteStore(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "stubborn"), Flags: unix.O_RDWR}).FD
	store := c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	if err := s.Unmount(shortly(t)); !errors.Is(err, ErrDetached) {
		t.Errorf("unmount under a store: %v; want %v", err, ErrDetached)
	}
	close(x.release)
	if r := store.Wait(); r.Errno != 0 {
		t.Errorf("the store under way: %v; want success", r.Errno)
	}
}

// A container that was started while the mount was visible has a copy of it.
func TestUnmountWithNamespaceClone(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	inside := testclient.Start(t, testclient.Options{Namespace: s.Dir()})
	inside.OK(Op{Do: "cat", Path: s.at("cache", "value")})
	if err := s.Unmount(shortly(t)); !errors.Is(err, ErrDetached) || !strings.Contains(err.Error(), "namespace") {
		t.Errorf("unmount with a copy elsewhere: %v; want %v and a word about namespaces", err, ErrDetached)
	}
	if m, err := topMount(s.Dir()); m != nil || err != nil {
		t.Errorf("after Unmount: %+v, %v; want no mount", m, err)
	}
	inside.Want(unix.ENODEV, Op{Do: "cat", Path: s.at("cache", "value")})
}

func TestUnmountInsideHandler(t *testing.T) {
	var server atomic.Pointer[Server]
	result := make(chan error, 1)
	tr := sysfs.NewTree()
	if err := tr.Root().AddFile(nil, &sysfs.Attribute{
		Name: "f", Mode: 0o400,
		Show: func(context.Context, any, *bytes.Buffer) error {
			result <- server.Load().Unmount(context.Background())
			return nil
		},
	}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, tr, Options{})
	server.Store(s)
	testclient.Start(t, testclient.Options{}).OK(Op{Do: "cat", Path: s.at("f")})
	if err := <-result; !errors.Is(err, ErrBusy) {
		t.Errorf("Unmount inside a show: %v; want %v", err, ErrBusy)
	}
}

// Of those who mount on one directory at once one does. Otherwise one could answer the
// requests of the other's connection.
func TestMountAtOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	for range 20 {
		dir := mountDir(t)
		servers, errs := make([]*Server, 4), make([]error, 4)
		var wg sync.WaitGroup
		for i := range servers {
			wg.Go(func() { servers[i], errs[i] = Mount(dir, newFixture().tree, Options{}) })
		}
		wg.Wait()
		mounted := 0
		for i, s := range servers {
			if s == nil {
				if !errors.Is(errs[i], ErrMounted) {
					t.Errorf("mount: %v; want %v", errs[i], ErrMounted)
				}
				continue
			}
			mounted++
			if err := s.Unmount(patiently(t)); err != nil {
				t.Error(err)
			}
		}
		if mounted != 1 {
			t.Errorf("%d mounted; want 1", mounted)
		}
		for err := error(nil); err == nil; { // what is left
			err = unmount(dir, true)
		}
	}
}

func TestUnmountedFromOutside(t *testing.T) {
	s := serve(t, newFixture().tree, Options{})
	if err := Unmount(context.Background(), s.Dir(), false); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if err := s.Err(); !errors.Is(err, ErrUnmounted) {
		t.Errorf("Err = %v; want %v", err, ErrUnmounted)
	}
	if err := Unmount(context.Background(), s.Dir(), false); !errors.Is(err, ErrNotMounted) {
		t.Errorf("unmount of what is not mounted: %v; want %v", err, ErrNotMounted)
	}
	if err := s.Unmount(patiently(t)); err != nil {
		t.Errorf("Unmount afterwards: %v; want nil", err)
	}
}

func TestAbortedConnection(t *testing.T) {
	var log bytes.Buffer
	x := newFixture()
	s := serve(t, x.tree, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "wait"), Flags: unix.O_RDWR}).FD
	store := c.Go(Op{Do: "write", FD: fd, Data: []byte("1")})
	eventually(t, "a store", func() bool { return x.stores.Load() == 1 })
	abort(t, s)
	late := time.AfterFunc(time.Minute, func() { // else the server would wait for the store for ever
		t.Error("a minute after the abort the store was not interrupted")
		close(x.release)
	})
	<-s.Done()
	late.Stop()
	if err := s.Err(); !errors.Is(err, ErrConnectionLost) {
		t.Errorf("Err = %v; want %v", err, ErrConnectionLost)
	}
	if log.Len() > 0 {
		t.Errorf("log = %q; want nothing of replies that nobody waits for", log.String())
	}
	if m, err := topMount(s.Dir()); m != nil || err != nil {
		t.Errorf("after the abort: %+v, %v; want no mount", m, err)
	}
	eventually(t, "the store was told", func() bool { return x.stores.Load() == 0 })
	if r := store.Wait(); r.Errno != unix.ECONNABORTED && r.Errno != unix.ENOTCONN {
		t.Errorf("the client's write: %v; want ECONNABORTED or ENOTCONN", r.Errno)
	}
}

// After kill -9 the mount is dead but there. The next server clears it away.
func TestStaleMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := mountDir(t)
	server := startChild(t, dir, 0)
	if server.says != "ready" {
		t.Fatal(server.says)
	}
	client := testclient.Start(t, testclient.Options{})
	fd := client.OK(Op{Do: "open", Path: filepath.Join(dir, "cache", "value")}).FD
	if _, err := Mount(dir, sysfs.NewTree(), Options{}); !errors.Is(err, ErrMounted) {
		t.Errorf("mount where another process serves: %v; want %v", err, ErrMounted)
	}
	if err := Unmount(shortly(t), dir, false); !errors.Is(err, ErrBusy) {
		t.Errorf("unmount of a busy mount: %v; want %v", err, ErrBusy)
	}
	if err := server.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.cmd.Wait()
	client.Want(unix.ENOTCONN, Op{Do: "statfs", Path: dir})

	var log bytes.Buffer
	x := newFixture()
	s, err := Mount(dir, x.tree, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatalf("mount over a stale mount: %v", err)
	}
	client.OK(Op{Do: "cat", Path: filepath.Join(dir, "cache", "value")})
	client.Want(unix.ENOTCONN, Op{Do: "read", FD: fd, Size: 1})
	if err := s.Unmount(patiently(t)); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), dir) { // all of it is there at the end
		t.Errorf("log = %q; want a line about %s", log.String(), dir)
	}
	if m, err := topMount(dir); m != nil || err != nil {
		t.Errorf("after all: %+v, %v; want no mount", m, err)
	}
}

// Unmount of another process's mount: at once if it is stale, lazily on request.
func TestUnmountOfAnotherProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	for _, tc := range []struct {
		what       string
		busy, kill bool
		lazy       bool
	}{
		{what: "idle"}, {what: "busy, lazily", busy: true, lazy: true}, {what: "stale and busy", busy: true, kill: true},
	} {
		dir := mountDir(t)
		server := startChild(t, dir, 0)
		if server.says != "ready" {
			t.Fatal(server.says)
		}
		if tc.busy {
			c := testclient.Start(t, testclient.Options{})
			c.OK(Op{Do: "open", Path: filepath.Join(dir, "cache", "value")})
		}
		if tc.kill {
			_ = server.cmd.Process.Kill()
			_ = server.cmd.Wait()
		}
		if err := Unmount(context.Background(), dir, tc.lazy); err != nil {
			t.Errorf("%s: %v; want success", tc.what, err)
		}
		if m, err := topMount(dir); m != nil || err != nil {
			t.Errorf("%s: %+v, %v; want no mount", tc.what, m, err)
		}
	}
}

// openDevice runs the test again in a mount namespace of its own, where
// /dev/fuse is open to all, if it is not open here. It reports whether the
// caller is to go on.
func openDevice(t *testing.T) bool {
	t.Helper()
	const inside = "FUSEFS_TEST_OPEN_DEVICE"
	fi, err := os.Stat("/dev/fuse")
	switch {
	case err != nil:
		t.Fatal(err)
	case fi.Mode()&0o006 == 0o006:
		return true
	case os.Getenv(inside) != "":
		if err := testclient.DetachOthers(""); err != nil {
			t.Fatal(err)
		}
		node := filepath.Join(t.TempDir(), "fuse")
		if err := unix.Mknod(node, unix.S_IFCHR, int(fi.Sys().(*syscall.Stat_t).Rdev)); err != nil {
			t.Skipf("needs mknod of a device: %v", err)
		}
		if err := errors.Join(os.Chmod(node, 0o666), unix.Mount(node, "/dev/fuse", "", unix.MS_BIND, "")); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a namespace with an open /dev/fuse: %v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("%s", out)
	}
	return false
}

// A user without rights mounts through fusermount3, if /dev/fuse is open to all
// as distributions have it.
func TestPlainUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip("needs fusermount3 (package fuse3)")
	}
	if !openDevice(t) {
		return
	}
	dir := mountDir(t)
	if err := os.Chown(dir, testclient.Nobody, testclient.Nobody); err != nil {
		t.Fatal(err)
	}
	server := startChild(t, dir, testclient.Nobody)
	if server.says != "ready" {
		t.Fatal(server.says)
	}
	m, err := topMount(dir)
	if err != nil || m == nil || m.FSType != fsType || !strings.Contains(m.Options, "nosuid,nodev,noexec") {
		t.Errorf("mountinfo = %+v, %v; want type %s, nosuid,nodev,noexec", m, err, fsType)
	}
	nobody := testclient.Start(t, testclient.Options{UID: testclient.Nobody})
	value := filepath.Join(dir, "cache", "value")
	nobody.OK(Op{Do: "echo", Path: value, Data: []byte("13\n")})
	if r := nobody.OK(Op{Do: "cat", Path: value}); string(r.Data) != "13\n" {
		t.Errorf("cat = %q; want %q", r.Data, "13\n")
	}
	if st := nobody.OK(Op{Do: "stat", Path: value}).Stat; st.UID != testclient.Nobody {
		t.Errorf("owner = %d; want %d", st.UID, testclient.Nobody)
	}
	// Not even root may look in without allow_other.
	testclient.Start(t, testclient.Options{}).Want(unix.EACCES, Op{Do: "stat", Path: value})

	// Busy, then not: fusermount3's words are understood.
	fd := nobody.OK(Op{Do: "open", Path: value}).FD
	time.AfterFunc(50*time.Millisecond, func() { nobody.Go(Op{Do: "close", FD: fd}) })
	server.in.Close() // lets the child unmount and exit
	if err := server.cmd.Wait(); err != nil {
		rest, _ := io.ReadAll(server.out)
		t.Errorf("unmount as user: %v, %s", err, rest)
	}
	if m, err := topMount(dir); m != nil || err != nil {
		t.Errorf("after unmount: %+v, %v; want no mount", m, err)
	}

	if conf, _ := os.ReadFile("/etc/fuse.conf"); !bytes.Contains(conf, []byte("\nuser_allow_other")) {
		if says := startChild(t, dir, testclient.Nobody, "ALLOW_OTHER=1").says; !strings.Contains(says, "user_allow_other") {
			t.Errorf("mount with allow_other says %q; want a word about user_allow_other", says)
		}
	}

	// A killed server's mount is cleared away for users as well.
	server = startChild(t, dir, testclient.Nobody)
	_ = server.cmd.Process.Kill()
	_ = server.cmd.Wait()
	server = startChild(t, dir, testclient.Nobody)
	if server.says != "ready" {
		t.Errorf("mount of a user over a stale mount: %s", server.says)
	}
}

// A panic in a handler costs the client an EIO and nobody a lock.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	x := newFixture()
	s := serve(t, x.tree, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c := testclient.Start(t, testclient.Options{})
	fd := c.OK(Op{Do: "open", Path: s.at("cache", "panic"), Flags: unix.O_RDWR}).FD
	for range 2 {
		c.Want(unix.EIO, Op{Do: "read", FD: fd, Size: 1})
	}
	c.OK(Op{Do: "write", FD: fd, Data: []byte("1")})
	x.cache.Remove()
	c.OK(Op{Do: "close", FD: fd})
	if err := s.Unmount(patiently(t)); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "on purpose") || !strings.Contains(log.String(), "newFixture") && !strings.Contains(log.String(), "main_test.go") {
		t.Errorf("log = %q; want the panic and its stack", log.String())
	}
}

func TestAbortOnPanic(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := mountDir(t)
	server := startChild(t, dir, 0) // with AbortOnPanic
	c := testclient.Start(t, testclient.Options{})
	if r := c.Do(Op{Do: "cat", Path: filepath.Join(dir, "cache", "panic")}); r.Errno == 0 {
		t.Error("a read that panics succeeded")
	}
	err := server.cmd.Wait()
	if code := server.cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("the server ended with %d, %v; want 2", code, err)
	}
	if m, err := topMount(dir); m != nil || err != nil {
		t.Errorf("after the panic: %+v, %v; want no mount", m, err)
	}
}

// What go-fuse says at the end of each mount is for those who debug.
func TestLibraryLog(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l := log.New(libraryLog{logger, slog.LevelWarn}, "", 0)
	for line, want := range map[string]string{
		"Failed to read from fuse conn: 103=software caused connection abort": "level=DEBUG",
		"writer: Write/Writev failed":                                         "level=WARN",
	} {
		out.Reset()
		l.Print(line)
		if got := out.String(); !strings.Contains(got, want) || !strings.Contains(got, line) || strings.Count(got, "\n") != 1 {
			t.Errorf("%q is logged as %q; want one line with %s", line, got, want)
		}
	}
}
