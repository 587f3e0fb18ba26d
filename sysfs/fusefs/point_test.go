package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"a", "a/b"} {
		if err := os.Mkdir(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"rel": "a/b", "abs": at("a"), "up": "a/../a/b", "twice": "rel", "through": "abs/b",
		"gone": "a/none", "deeper": "none/none", "later": "gone", "loop": "loop",
	} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(at("a"))
	for _, tc := range []struct {
		dir, want string
		err       error
		about     string
	}{
		{dir: at("a/b"), want: "a/b"},
		{dir: at("a/./b/../b/"), want: "a/b"},
		{dir: ".", want: "a"},
		{dir: "b", want: "a/b"},
		{dir: "../rel", want: "a/b"},
		{dir: at("rel"), want: "a/b"},
		{dir: at("abs"), want: "a"},
		{dir: at("abs/b"), want: "a/b"},
		{dir: at("up"), want: "a/b"},
		{dir: at("twice"), want: "a/b"},
		{dir: at("through"), want: "a/b"},
		{dir: at("file"), want: "file"},
		{dir: at("a/none"), want: "a/none", err: fs.ErrNotExist},
		{dir: at("abs/none"), want: "a/none", err: fs.ErrNotExist},
		{dir: at("none/none"), err: fs.ErrNotExist, about: "make its parent first"},
		{dir: at("gone"), err: fs.ErrNotExist, about: fmt.Sprintf(`%q is dangling: it leads to "a/none"`, at("gone"))},
		{dir: at("gone/x"), err: fs.ErrNotExist, about: "dangling"},
		{dir: at("deeper"), err: fs.ErrNotExist, about: "dangling"},
		{dir: at("later"), err: fs.ErrNotExist, about: "dangling"},
		{dir: at("file/x"), err: unix.ENOTDIR},
		{dir: at("loop"), err: unix.ELOOP},
	} {
		want := ""
		if tc.want != "" {
			want = at(tc.want)
		}
		got, err := resolve(tc.dir)
		if got != want || !errors.Is(err, tc.err) || err != nil && !strings.Contains(err.Error(), tc.about) {
			t.Errorf("resolve(%s) = %q, %v; want %q, %v %s", tc.dir, got, err, want, tc.err, tc.about)
		}
	}
}

func TestRefuse(t *testing.T) {
	self := fmt.Sprintf("/proc/%d", os.Getpid())
	for path, about := range map[string]string{
		"/": "/proc/self/mountinfo", "/proc": "/proc/self/mountinfo", "/dev": "/dev/fuse",
		self: "ps", self + "/fdinfo": "ps", "/proc/sys": "ps", "/proc/none": "ps",
		"/tmp": "", "/sys/kernel": "", "/dev/shm": "", "/procs": "", "/development": "",
	} {
		if err := refuse(path); (err == nil) != (about == "") || err != nil && !strings.Contains(err.Error(), about) {
			t.Errorf("refuse(%s): %v; want a word about %q", path, err, about)
		}
	}
	if _, err := Mount("/proc/self", sysfs.NewTree(), Options{}); err == nil || !strings.Contains(err.Error(), "ps") {
		t.Errorf("mount on /proc/self: %v; want the reason why not", err)
	}
}

// mustEnd fails the test if f does not end soon: what waits for a stopped server
// never ends.
func mustEnd(t *testing.T, what string, f func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end", what)
		return nil
	}
}

// A server that is stopped keeps nobody who wants to know about its mount, or
// wants to be rid of it.
func TestStoppedServer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	parent := mountDir(t)
	dir := filepath.Join(parent, "mnt")
	server := startChild(t, dir, 0, "NO_CACHE=1")
	if server.says != "ready" {
		t.Fatal(server.says)
	}
	signal := func(sig syscall.Signal) {
		if err := server.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(unix.SIGSTOP)
	eventually(t, "all threads stop", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", server.cmd.Process.Pid))
		for _, task := range tasks {
			if stat, _ := os.ReadFile(task); !bytes.Contains(stat, []byte(") T ")) {
				return false
			}
		}
		return true
	})
	t.Cleanup(func() { signal(unix.SIGCONT); _ = os.Remove(dir) })
	defer func(d time.Duration) { answerTimeout = d }(answerTimeout)
	answerTimeout = 100 * time.Millisecond
	if err := mustEnd(t, "Find", func() error { _, err := Find(dir); return err }); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("Find: %v; want %v", err, ErrNoAnswer)
	}
	mount := func(dir string) error {
		return mustEnd(t, "Mount", func() error { _, err := Mount(dir, sysfs.NewTree(), Options{}); return err })
	}
	if err := mount(dir); !errors.Is(err, ErrMounted) || !strings.Contains(err.Error(), "umount --lazy") {
		t.Errorf("Mount: %v; want %v, and what to do", err, ErrMounted)
	}
	below := filepath.Join(dir, "cache/x")
	if err := mustEnd(t, "Unmount below", func() error { return Unmount(shortly(t), below, false) }); !errors.Is(err, ErrNotMounted) {
		t.Errorf("Unmount of a directory of the mount: %v; want %v", err, ErrNotMounted)
	}
	if err := mustEnd(t, "lazy Unmount", func() error { return Unmount(context.Background(), dir, true) }); err != nil {
		t.Errorf("lazy Unmount: %v; want success", err)
	}
	if m, err := topMount(dir); m != nil || err != nil {
		t.Errorf("after all: %+v, %v; want no mount", m, err)
	}
}

// Mount makes its directory, and removes what it has made however it ends.
func TestMadeDir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	tr := newFixture().tree
	there := func(dir string) bool {
		_, err := os.Lstat(dir)
		return err == nil
	}
	for what, end := range map[string]func(*Server) error{
		"Unmount":              func(s *Server) error { return s.Unmount(patiently(t)) },
		"unmount from outside": func(s *Server) error { return unmount(s.Dir(), false) },
		"abort":                func(s *Server) error { abort(t, s); return nil },
	} {
		for _, made := range []bool{true, false} {
			dir := filepath.Join(t.TempDir(), "mnt")
			if !made {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Mount(dir, tr, Options{KeepDir: !made})
			if err != nil {
				t.Fatal(err)
			}
			if s.MadeDir() != made {
				t.Errorf("MadeDir = %v; want %v", s.MadeDir(), made)
			}
			if err := end(s); err != nil {
				t.Error(err)
			}
			<-s.Done()
			if there(dir) == made {
				t.Errorf("%s: the directory is there: %v; want %v", what, made, !made)
			}
		}
	}
	none := filepath.Join(t.TempDir(), "mnt")
	if _, err := Mount(none, tr, Options{KeepDir: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mount on nothing with KeepDir: %v; want %v", err, fs.ErrNotExist)
	}
	if _, err := Mount(none, tr, Options{MountOptions: []string{"nonsense"}}); err == nil || there(none) {
		t.Errorf("a mount that fails: %v, leaves a directory: %v; want none", err, there(none))
	}
	if _, err := Mount(filepath.Join(none, "mnt"), tr, Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "parent") {
		t.Errorf("mount where the parent is missing: %v; want %v and a word about it", err, fs.ErrNotExist)
	}
}

// A mount is found wherever it is, and nothing is touched that is in its place.
func TestMovedMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	var log bytes.Buffer
	for _, how := range []string{"Unmount", "detach", "abort"} {
		tmp := t.TempDir()
		parent, moved := filepath.Join(tmp, "old"), filepath.Join(tmp, "new")
		if err := os.Mkdir(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		s, err := Mount(filepath.Join(parent, "mnt"), newFixture().tree, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(parent, "mnt") // of somebody else, in the place of the mount
		if err := errors.Join(os.Rename(parent, moved), os.Mkdir(parent, 0o755), os.Mkdir(other, 0o755)); err != nil {
			t.Fatal(err)
		}
		var want error
		switch how {
		case "Unmount":
			err = s.Unmount(patiently(t))
		case "detach":
			c := testclient.Start(t, testclient.Options{})
			c.OK(Op{Do: "open", Path: filepath.Join(moved, "mnt/cache/value")})
			err, want = s.Unmount(shortly(t)), ErrDetached
		case "abort":
			abort(t, s)
			<-s.Done()
			err, want = s.Err(), ErrConnectionLost
		}
		if !errors.Is(err, want) {
			t.Errorf("%s of a mount that was moved: %v; want %v", how, err, want)
		}
		if m, err := s.find(); m != nil || err != nil {
			t.Errorf("%s: the mount is left: %+v, %v", how, m, err)
		}
		if _, err := os.Lstat(filepath.Join(moved, "mnt")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the directory that was made, and moved, is left: %v", how, err)
		}
		if _, err := os.Lstat(other); err != nil {
			t.Errorf("%s: another directory in the place of the mount point is gone: %v", how, err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("log:\n%swant nothing", log.String())
	}
}

// What is mounted over a mount is not unmounted in its place.
func TestCoveredMount(t *testing.T) {
	for _, above := range []string{"mnt", "."} {
		parent := mountDir(t)
		s, err := Mount(filepath.Join(parent, "mnt"), sysfs.NewTree(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		cover := filepath.Join(parent, above)
		if err := unix.Mount("tmpfs", cover, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(cover, "mnt") // for above ".", in the place of the mount
		if err := os.Mkdir(other, 0o755); err != nil {
			t.Fatal(err)
		}
		err = s.Unmount(shortly(t))
		if _, err := os.Lstat(other); err != nil {
			t.Errorf("a directory of the mount above is gone: %v", err)
		}
		if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "mounted over") {
			t.Errorf("unmount below another mount: %v; want %v", err, ErrBusy)
		}
		if err := errors.Join(unix.Unmount(cover, 0), unix.Unmount(filepath.Join(parent, "mnt"), 0), os.Remove(filepath.Join(parent, "mnt"))); err != nil {
			t.Error(err)
		}
	}
}

// A signal ends the process as it does otherwise, after the mount.
func TestUnmountOnSignal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	for _, tc := range []struct {
		sig    syscall.Signal
		busy   bool
		again  bool // the signal comes twice at once, as from timeout(1)
		status int  // -1: it was ended by the signal
	}{
		{sig: unix.SIGTERM, status: -1},
		{sig: unix.SIGINT, status: -1, again: true},
		{sig: unix.SIGHUP, status: -1, busy: true},
		{sig: unix.SIGQUIT, status: 2},
		{sig: unix.SIGQUIT, status: 2, busy: true},
		{sig: unix.SIGABRT, status: 2},
	} {
		dir := filepath.Join(mountDir(t), "mnt")
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), serveEnv+"="+dir, "ON_SIGNAL=1")
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, len("ready\n"))
		if _, err := out.Read(line); err != nil || string(line) != "ready\n" {
			t.Fatalf("the child says %q, %v", line, err)
		}
		if tc.busy {
			testclient.Start(t, testclient.Options{}).OK(Op{Do: "open", Path: filepath.Join(dir, "cache/value")})
		}
		for range map[bool]int{false: 1, true: 2}[tc.again] {
			if err := cmd.Process.Signal(tc.sig); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if tc.status < 0 && ws.Signal() != tc.sig || ws.ExitStatus() != tc.status {
			t.Errorf("after %v: %v; want status %d:\n%s", tc.sig, cmd.ProcessState, tc.status, &errs)
		}
		if dump := strings.Contains(errs.String(), "goroutine "); dump != (tc.status == 2) {
			t.Errorf("after %v: standard error:\n%swant stacks: %v", tc.sig, &errs, tc.status == 2)
		}
		if m, err := topMount(dir); m != nil || err != nil {
			t.Errorf("after %v: %+v, %v; want no mount", tc.sig, m, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %v: the directory that was made is left: %v", tc.sig, err)
			_ = os.Remove(dir)
		}
	}
}
