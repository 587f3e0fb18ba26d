package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
)

// exec is slabfs exec on the mount, of a command and its arguments.
func (s *server) exec(args ...string) *exec.Cmd {
	return s.user.command(append([]string{"exec", s.dir}, args...)...)
}

// What a command sees that slabfs exec runs.
func TestExec(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := &session{server: root.mount(t, root.newDir(t, true), "--load"), c: root.client(t)}
	s.rest(t)
	table := cat(s.c, s.path("proc/slabinfo"))
	for _, tc := range []struct {
		args  []string
		dir   string // where it is run
		stdin string
		want  string
	}{
		{args: []string{"cat", "/proc/slabinfo"}, want: table},
		{args: []string{"cat", "/sys/kernel/slab/load-small/objects"}, want: cat(s.c, s.attr("load-small", "objects"))},
		{args: []string{"cat", "load-small/object_size", "kmalloc-8/object_size"}, dir: "/sys/kernel/slab", want: "100\n8\n"},
		{args: []string{"--", "sh", "-c", "echo 33 >/sys/kernel/slab/load-small/cpu_partial; cat /sys/kernel/slab/load-small/cpu_partial"}, want: "33\n"},
		{args: []string{"cat"}, stdin: "through", want: "through"},
		{args: []string{"printf", `%s\n`, "-n", "--load", "--", ""}, want: "-n\n--load\n--\n\n"},
		{args: []string{"--", "sh", "-c", `echo "$0 $SLABFS_TEST_KEPT"`}, want: "sh kept\n"},
		{args: []string{"./program"}, dir: filepath.Dir(s.dir), want: "run\n"},
		{args: []string{"stat", "-f", "-c", "%T", "/sys/kernel", "/proc"}, want: "sysfs\nproc\n"},
	} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(s.dir), "program"), []byte("#!/bin/sh\necho run\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		c := s.exec(tc.args...)
		c.Env = append(os.Environ(), "SLABFS_TEST_KEPT=kept")
		c.Stdin = strings.NewReader(tc.stdin)
		if tc.dir != "" {
			c.Dir = tc.dir
		}
		status, out, errs := finish(t, c)
		if status != 0 || out != tc.want || errs != "" {
			t.Errorf("exec %q in %q: status %d, output %q, %q; want %q", tc.args, tc.dir, status, out, errs, tc.want)
		}
	}
	// Signals, capabilities, limits and descriptors are those that it would have had.
	probe := []string{"sh", "-c", `grep -E "^(Sig...|Cap...|NoNewPrivs|Seccomp):" /proc/self/status; ls /proc/self/fd; ulimit -n; pwd; umask`}
	direct := exec.Command(probe[0], probe[1:]...)
	direct.Dir = "/"
	_, want, _ := finish(t, direct)
	if status, out, errs := finish(t, s.exec(append([]string{"--"}, probe...)...)); status != 0 || out != want || errs != "" {
		t.Errorf("a command of exec starts with\n%s%swant\n%s", out, errs, want)
	}
	if got := cat(s.c, s.attr("load-small", "cpu_partial")); got != "33\n" {
		t.Errorf("cpu_partial of the mount = %q after a write by exec; want 33", got)
	}
	if text, err := os.ReadFile("/proc/slabinfo"); err != nil || strings.Contains(string(text), "load-small") {
		t.Errorf("/proc/slabinfo of everybody else: %v\n%s", err, text)
	}
}

// The exit status is the command's own.
func TestExecStatus(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true))
	for _, tc := range []struct {
		args   []string
		status int // -1: ended by SIGTERM
		about  []string
	}{
		{args: []string{"true"}},
		{args: []string{"sh", "-c", "exit 42"}, status: 42},
		{args: []string{"sh", "-c", "kill -TERM $$"}, status: -1},
		{args: []string{"no-such-command"}, status: 127, about: []string{`"no-such-command"`, "not found"}},
		{args: []string{"./no/such"}, status: 127, about: []string{`"./no/such"`, "no such file"}},
		{args: []string{""}, status: 127},
		{args: []string{"/etc/passwd"}, status: 126, about: []string{`"/etc/passwd"`, "permission denied"}},
		{args: []string{"/"}, status: 126, about: []string{`"/"`}},
		{args: []string{"--help"}, status: 1, about: []string{`"--help"`, "slabfs exec --help"}},
		{args: []string{"--"}, status: 1, about: []string{"a directory and a command"}},
		{args: []string{}, status: 1, about: []string{"a directory and a command"}},
	} {
		c := s.exec(tc.args...)
		status, out, errs := finish(t, c)
		if status != tc.status || out != "" {
			t.Errorf("exec %q: %v, output %q; want status %d, nothing", tc.args, c.ProcessState, out, tc.status)
		}
		if ws := c.ProcessState.Sys().(syscall.WaitStatus); tc.status < 0 && ws.Signal() != unix.SIGTERM {
			t.Errorf("exec %q: %v; want SIGTERM", tc.args, c.ProcessState)
		}
		if tc.status > 0 && tc.status != 42 {
			wantLine(t, fmt.Sprintf("exec %q", tc.args), errs, tc.about...)
		} else if errs != "" {
			t.Errorf("exec %q: it said %q; want nothing", tc.args, errs)
		}
	}

	dead := root.mount(t, root.newDir(t, true))
	dead.kill()
	defer root.run(t, "umount", dead.dir)
	// Of mounts on one directory, the last counts.
	tmpfs := func(dir string) {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	}
	above, below := root.newDir(t, true), root.mount(t, root.newDir(t, true))
	tmpfs(above)
	root.mount(t, above)
	tmpfs(below.dir)
	if status, _, errs := root.run(t, "exec", above, "true"); status != 0 {
		t.Errorf("exec on a mount above another: status %d, %q; want 0", status, errs)
	}

	empty, missing := root.newDir(t, true), root.newDir(t, false)
	for dir, about := range map[string][]string{
		below.dir:                       {"no slabfs is mounted on", below.dir},
		dead.dir:                        {dead.dir, "dead", "mount it again"},
		empty:                           {"no slabfs is mounted on", empty, "slabfs mount --load"},
		missing:                         {missing, "no such file"},
		"/":                             {"no slabfs is mounted"},
		s.attr("kmalloc-64", "objects"): {"no slabfs is mounted"},
	} {
		status, out, errs := root.run(t, "exec", dir, "true")
		wantLine(t, "exec on "+dir, errs, about...)
		if status != 2 || out != "" {
			t.Errorf("exec on %s: status %d, output %q; want 2, nothing", dir, status, out)
		}
	}
	status, _, errs := user{uid: testclient.Nobody}.run(t, "exec", s.dir, "true")
	wantLine(t, "exec by a user", errs, "needs root")
	if status != 2 {
		t.Errorf("exec by a user: status %d; want 2", status)
	}
}

// Not even root looks into a user's mount, unless it is made for others as well.
func TestExecOnMountOfUser(t *testing.T) {
	t.Parallel()
	if !asPlainUser(t) {
		return
	}
	nobody := user{uid: testclient.Nobody}
	s := nobody.mount(t, nobody.newDir(t, true))
	status, _, errs := root.run(t, "exec", s.dir, "true")
	wantLine(t, "exec on a user's mount", errs, s.dir, "permission denied", "allow_other")
	if status != 2 {
		t.Errorf("exec on a user's mount: status %d; want 2", status)
	}
}

// Signals reach the command: it is the process that was started. What its
// starter ignores, it ignores.
func TestExecSignals(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true))
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		c := s.exec("sleep", "600")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill() })
		comm := fmt.Sprintf("/proc/%d/comm", c.Process.Pid)
		eventually(t, "the process is the command", func() bool {
			name, err := os.ReadFile(comm)
			return err == nil && string(name) == "sleep\n"
		})
		if err := c.Process.Signal(sig); err != nil {
			t.Error(err)
		}
		_ = c.Wait()
		if ws := c.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != sig {
			t.Errorf("after %v: %v", sig, c.ProcessState)
		}
	}
	u := user{shell: `trap "" INT HUP`}
	status, out, errs := u.run(t, "exec", s.dir, "--", "sh", "-c", "kill -INT $$; kill -HUP $$; echo alive")
	if status != 0 || out != "alive\n" || errs != "" {
		t.Errorf("with SIGINT and SIGHUP ignored: status %d, %q, %q; want alive", status, out, errs)
	}
}

// A mount that a command still uses serves it to its end.
func TestExecOutlivesUmount(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true))
	c := s.exec("--", "sh", "-c", "echo ready && read line && cat /proc/slabinfo /sys/kernel/slab/kmalloc-8/object_size")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &buffer{}
	out.mu.Init(lockdep.Leaf)
	c.Stdout = out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command runs", func() bool { return out.String() == "ready\n" })
	if status, _, errs := root.run(t, "umount", s.dir); status != 0 || mounted(t, s.dir) {
		t.Errorf("umount: status %d, %q, mounted %v; want 0, gone", status, errs, mounted(t, s.dir))
	}
	_, _ = in.Write([]byte("\n"))
	if err := c.Wait(); err != nil || !strings.HasPrefix(out.String(), "ready\n"+slabinfoHead) || !strings.HasSuffix(out.String(), "\n8\n") {
		t.Errorf("the command: %v, output:\n%s", err, out.String())
	}
	s.wantStatus(0)
}

// On a system whose mounts spread to copies, as they do under systemd, nothing
// of exec spreads, and what is unmounted outside goes away inside.
func TestExecNamespace(t *testing.T) {
	needRoot(t)
	if os.Getenv(insideEnv) == "" {
		t.Parallel()
		inside(t)
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	s := root.mount(t, root.newDir(t, true))
	other := root.mount(t, root.newDir(t, true))
	mounts := func() string {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := mounts()
	c := s.exec("--", "sh", "-c", "mount -t tmpfs none /proc/sys && cat /proc/self/mountinfo && read line && cat /proc/self/mountinfo")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &buffer{}
	out.mu.Init(lockdep.Leaf)
	var errs bytes.Buffer
	c.Stdout, c.Stderr = out, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command has its mounts", func() bool { return strings.Contains(out.String(), " /proc/sys ") })
	for _, want := range []string{" /sys/kernel/slab ", " /proc/slabinfo ", " " + other.dir + " "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%sis no mount point of the command:\n%s", want, out.String())
		}
	}
	if after := mounts(); after != before {
		t.Errorf("mounts outside:\n%swere:\n%s", after, before)
	}
	other.signal(unix.SIGTERM) // it would wait for a copy, and then complain
	other.wantStatus(0)
	if errs := other.errs.String(); errs != "" {
		t.Errorf("another server said at its end: %q; want nothing", errs)
	}
	first := len(out.String())
	_, _ = in.Write([]byte("\n"))
	if err := c.Wait(); err != nil {
		t.Errorf("the command: %v: %s", err, &errs)
	}
	if text := out.String()[first:]; strings.Contains(text, other.dir) || !strings.Contains(text, " /proc/slabinfo ") {
		t.Errorf("mounts of the command when another server has ended:\n%s", text)
	}
}

// In a chroot too, whose root is no mount point.
func TestExecInChroot(t *testing.T) {
	needRoot(t)
	if os.Getenv(insideEnv) == "" {
		t.Parallel()
		inside(t)
		return
	}
	s := root.mount(t, root.newDir(t, true))
	top := t.TempDir()
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr", "/proc", "/sys", "/dev", filepath.Dir(binary), s.dir} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		to := filepath.Join(top, dir)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(dir, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Unmount(to, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}()
	}
	c := s.exec("--", "sh", "-c", "head -n 1 /proc/slabinfo; cat /sys/kernel/slab/kmalloc-8/object_size; pwd; ls -d /etc")
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: top}
	status, out, errs := finish(t, c)
	if want := "slabinfo - version: 2.1\n8\n/\n"; out != want || status == 0 || !strings.Contains(errs, "/etc") {
		t.Errorf("exec in a chroot: status %d, output %q, %q; want %q, and no /etc there", status, out, errs, want)
	}
}
