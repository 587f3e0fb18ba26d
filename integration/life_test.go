package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
)

// From nothing to nothing: a signal ends the command in order.
func TestSignals(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		for _, made := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/made=%v", sig, made), func(t *testing.T) {
				t.Parallel()
				dir := root.newDir(t, !made)
				s := root.mount(t, dir)
				wantLine(t, "ready", s.ready, "mounted on "+dir, "cat "+dir+"/sys/kernel/slab/kmalloc-64/objects")
				if got := strings.Contains(s.ready, "made"); got != made {
					t.Errorf("ready line %q; want a word about a directory that was made: %v", s.ready, made)
				}
				_, hint, _ := strings.Cut(s.ready, "cat ")
				if got := cat(root.client(t), strings.TrimSpace(hint)); got != "0\n" {
					t.Errorf("what the ready line says to try reads %q; want 0", got)
				}
				s.signal(sig)
				s.wantStatus(0)
				if mounted(t, dir) || exists(t, dir) == made {
					t.Errorf("after %v: mounted %v, directory is there %v; want false, %v", sig, mounted(t, dir), exists(t, dir), !made)
				}
				if out := s.out.String() + s.errs.String(); out != "" {
					t.Errorf("it said %q at the end; want nothing", out)
				}
			})
		}
	}
}

// Who starts it under nohup wants no hangup to end it.
func TestHangupIgnored(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := user{shell: `trap "" HUP`}.mount(t, root.newDir(t, true))
	s.signal(unix.SIGHUP)
	c := root.client(t)
	for range 10 {
		cat(c, s.module("version"))
		time.Sleep(10 * time.Millisecond)
	}
	s.signal(unix.SIGTERM)
	s.wantStatus(0)
}

// A shell script's background jobs ignore SIGINT from birth; this command ends.
func TestInterruptIgnored(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := user{shell: `trap "" INT`}.mount(t, root.newDir(t, true))
	s.signal(unix.SIGINT)
	s.wantStatus(0)
}

func TestKilledAndMountedAgain(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := root.newDir(t, false)
	s := root.mount(t, dir, "--load")
	c := root.client(t)
	fd := c.OK(Op{Do: "open", Path: s.attr("kmalloc-64", "objects")}).FD
	for range 2 {
		s.kill()
		c.Want(unix.ENOTCONN, Op{Do: "statfs", Path: dir})
		s = root.mount(t, dir, "--load")
		eventually(t, "the second server logs the stale mount", func() bool {
			return strings.Contains(s.errs.String(), "detached a mount whose server had died")
		})
		cat(c, s.attr("load-small", "objects"))
		c.Want(unix.ENOTCONN, Op{Do: "pread", FD: fd, Size: 10})
	}
}

// A server that was killed when it had mounted, and had not answered the kernel's first
// message, leaves a mount as any other does.
func TestKilledBeforeReady(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := root.newDir(t, true)
	die := func() {
		t.Helper()
		fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Mount("slabfs", dir, "fuse.slabfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		root.client(t).Want(unix.ENOTCONN, Op{Do: "statfs", Path: dir})
	}
	umount := func(what string) {
		t.Helper()
		if status, _, errs := root.run(t, "umount", dir); status != 0 || errs != "" || mounted(t, dir) {
			t.Errorf("umount of %s: status %d, %q, mounted %v; want 0, gone", what, status, errs, mounted(t, dir))
		}
	}
	die()
	umount("what is left")

	die()
	s := root.mount(t, dir)
	cat(root.client(t), s.attr("kmalloc-64", "objects"))
	umount("the next one")
	s.wantStatus(0)

	die()
	status, _, errs := root.run(t, "mount", "--daemon", dir)
	wantLine(t, "mount", errs, dir, "detached a mount whose server had died")
	if status != 0 {
		t.Errorf("mount over what is left: status %d; want 0", status)
	}
	umount("the daemon's mount")
	eventually(t, "the daemon ends", func() bool { return len(processes(t, dir)) == 0 })
}

func TestMountedTwice(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, false))
	for _, flags := range [][]string{nil, {"--daemon"}} {
		status, out, errs := root.run(t, append([]string{"mount", s.dir}, flags...)...)
		wantLine(t, "second mount", errs, s.dir, "already mounted", "unmount it first")
		if status != 2 || out != "" {
			t.Errorf("second mount %q: status %d, output %q; want 2 and nothing", flags, status, out)
		}
	}
	cat(root.client(t), s.attr("kmalloc-64", "objects"))
}

func TestUmount(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c := root.client(t)

	s := root.mount(t, root.newDir(t, false))
	fd := c.OK(Op{Do: "open", Path: s.module("version")}).FD
	status, _, errs := root.run(t, "umount", s.dir)
	wantLine(t, "umount of a busy mount", errs, s.dir, "in use", "lazily")
	if status != 2 || !mounted(t, s.dir) {
		t.Errorf("umount of a busy mount: status %d, mounted %v; want 2, true", status, mounted(t, s.dir))
	}
	c.OK(Op{Do: "close", FD: fd})
	if status, _, errs := root.run(t, "umount", s.dir); status != 0 || errs != "" {
		t.Errorf("umount: status %d, %q; want 0", status, errs)
	}
	s.wantStatus(0)
	if mounted(t, s.dir) || exists(t, s.dir) {
		t.Errorf("after umount: mounted %v, directory is there %v; want neither", mounted(t, s.dir), exists(t, s.dir))
	}

	// Lazily: gone from the name space at once; who has it open goes on.
	s = root.mount(t, root.newDir(t, true))
	fd = c.OK(Op{Do: "open", Path: s.module("version")}).FD
	if status, _, errs := root.run(t, "umount", s.dir, "--lazy"); status != 0 || errs != "" || mounted(t, s.dir) {
		t.Errorf("lazy umount: status %d, %q, mounted %v; want 0, gone", status, errs, mounted(t, s.dir))
	}
	c.OK(Op{Do: "pread", FD: fd, Size: 10})
	if s.over() {
		t.Error("the server ended while a client had a file open")
	}
	c.OK(Op{Do: "close", FD: fd})
	s.wantStatus(0)

	// What a killed server left.
	s = root.mount(t, root.newDir(t, true))
	s.kill()
	if status, _, errs := root.run(t, "umount", s.dir); status != 0 || errs != "" || mounted(t, s.dir) {
		t.Errorf("umount of a stale mount: status %d, %q; want 0, gone", status, errs)
	}

	// What is none of our business.
	foreign := root.newDir(t, true)
	if err := unix.Mount("tmpfs", foreign, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(foreign, 0); err != nil {
			t.Errorf("unmount what the command must not touch: %v", err)
		}
	}()
	for _, dir := range []string{foreign, s.dir, "/"} {
		for _, flags := range [][]string{nil, {"--lazy"}} {
			status, _, errs := root.run(t, append([]string{"umount", dir}, flags...)...)
			wantLine(t, "umount "+dir, errs, dir, "not mounted")
			if status != 2 {
				t.Errorf("umount %s %q: status %d; want 2", dir, flags, status)
			}
		}
	}
}

func TestAborted(t *testing.T) {
	needRoot(t)
	t.Parallel()
	control := t.TempDir()
	if err := unix.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
		t.Fatalf("mount fusectl: %v", err)
	}
	defer func() {
		if err := unix.Unmount(control, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s := root.mount(t, root.newDir(t, false), "--load")
	c := root.client(t)
	fd := c.OK(Op{Do: "open", Path: s.module("version")}).FD
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil {
		t.Fatal(err)
	}
	abort := filepath.Join(control, strconv.Itoa(int(unix.Minor(st.Dev))), "abort")
	if err := os.WriteFile(abort, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	s.wantStatus(4)
	wantLine(t, "end of an aborted server", s.errs.String(), s.dir, "connection lost", "mount it again")
	if mounted(t, s.dir) || exists(t, s.dir) {
		t.Errorf("after an abort: mounted %v, directory is there %v; want neither", mounted(t, s.dir), exists(t, s.dir))
	}
	if r := c.Do(Op{Do: "pread", FD: fd, Size: 1}); r.Errno != unix.ECONNABORTED && r.Errno != unix.ENOTCONN {
		t.Errorf("read after an abort: %v; want ECONNABORTED or ENOTCONN", r.Errno)
	}
}

// A mount that is in use at the end is waited for, and then detached.
func TestBusyAtTheEnd(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprintf("secondSignal=%v", second), func(t *testing.T) {
			t.Parallel()
			s := root.mount(t, root.newDir(t, false), "--load")
			c := root.client(t)
			fd := c.OK(Op{Do: "open", Path: s.module("version")}).FD
			c.OK(Op{Do: "chdir", Path: s.path("proc")})
			s.signal(unix.SIGTERM)
			time.Sleep(200 * time.Millisecond)
			if s.over() || !mounted(t, s.dir) {
				t.Fatalf("ended %v, mounted %v while a client had a file open; want a server that waits", s.over(), mounted(t, s.dir))
			}
			c.OK(Op{Do: "pread", FD: fd, Size: 1})
			about := "detached while in use"
			if second { // one at once is the same, see TestSignalTwiceAtOnce
				about = "second signal"
				for !s.over() {
					_ = s.cmd.Process.Signal(unix.SIGINT)
					time.Sleep(100 * time.Millisecond)
				}
			}
			s.wantStatus(0)
			wantLine(t, "end of a busy server", s.errs.String(), s.dir, about)
			if mounted(t, s.dir) || exists(t, s.dir) {
				t.Errorf("mounted %v, directory is there %v; want neither", mounted(t, s.dir), exists(t, s.dir))
			}
			if r := c.Do(Op{Do: "pread", FD: fd, Size: 1}); r.Errno != unix.ECONNABORTED && r.Errno != unix.ENOTCONN {
				t.Errorf("read after the end: %v; want ECONNABORTED or ENOTCONN", r.Errno)
			}
		})
	}
	t.Run("freed in time", func(t *testing.T) {
		t.Parallel()
		s := root.mount(t, root.newDir(t, true))
		c := root.client(t)
		c.OK(Op{Do: "open", Path: s.module("version")})
		s.signal(unix.SIGTERM)
		time.Sleep(200 * time.Millisecond)
		c.Kill()
		s.wantStatus(0)
		if errs := s.errs.String(); errs != "" {
			t.Errorf("it said %q; want nothing", errs)
		}
	})
	t.Run("copy in another mount namespace", func(t *testing.T) {
		t.Parallel()
		s := root.mount(t, root.newDir(t, true))
		testclient.Start(t, testclient.Options{Namespace: s.dir})
		s.signal(unix.SIGTERM)
		s.wantStatus(0)
		wantLine(t, "end of a server with a copy", s.errs.String(), s.dir, "another mount namespace")
	})
}

// timeout(1) sends its signal to the command and to the group of both. That is one
// end, and it waits for users of the mount.
func TestSignalTwiceAtOnce(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, false))
	c := root.client(t)
	c.OK(Op{Do: "open", Path: s.module("version")})
	for range 2 {
		s.signal(unix.SIGTERM)
		time.Sleep(50 * time.Millisecond) // as two that are told apart
	}
	time.Sleep(200 * time.Millisecond)
	if s.over() || !mounted(t, s.dir) {
		t.Errorf("ended %v, mounted %v while a client had a file open; want a server that waits", s.over(), mounted(t, s.dir))
	}
	c.Kill()
	s.wantStatus(0)
	if errs := s.errs.String(); errs != "" {
		t.Errorf("it said %q; want nothing", errs)
	}
}

// Signals that ask for stacks get them, and leave no mount.
func TestStacks(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, sig := range []unix.Signal{unix.SIGQUIT, unix.SIGABRT} {
		s := root.mount(t, root.newDir(t, false), "--load")
		root.client(t).OK(Op{Do: "open", Path: s.module("version")})
		s.signal(sig)
		s.wantStatus(2)
		if errs := s.errs.String(); !strings.Contains(errs, "goroutine ") || !strings.Contains(errs, "main.serve(") {
			t.Errorf("after %v:\n%swant the stacks of all goroutines", sig, errs)
		}
		if mounted(t, s.dir) || exists(t, s.dir) {
			t.Errorf("after %v: mounted %v, directory is there %v; want neither", sig, mounted(t, s.dir), exists(t, s.dir))
		}
	}
}

// stop stops a process, and returns when none of its threads runs any more.
func stop(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process stops", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		for _, task := range tasks {
			if stat, _ := os.ReadFile(task); !bytes.Contains(stat, []byte(") T ")) {
				return false
			}
		}
		return true
	})
}

// A server that does not answer keeps no command from its end.
func TestStoppedServer(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true))
	c := root.client(t)
	c.OK(Op{Do: "open", Path: s.module("version")})
	stop(t, s.cmd.Process)
	time.Sleep(1100 * time.Millisecond) // the kernel forgets what it could answer itself
	for _, tc := range []struct {
		args   []string
		status int
		about  string
	}{
		{[]string{"mount", s.dir}, 2, "does not answer"},
		{[]string{"mount", "--daemon", s.dir}, 2, "does not answer"},
		{[]string{"exec", s.dir, "true"}, 2, "does not answer"},
		{[]string{"umount", s.dir}, 2, "in use"},
		{[]string{"umount", s.path("sys")}, 2, "not mounted"},
		{[]string{"umount", "--lazy", s.dir}, 0, ""},
	} {
		status, _, errs := root.run(t, tc.args...)
		if status != tc.status || !strings.Contains(errs, tc.about) {
			t.Errorf("%q: status %d, %q; want %d, %q", tc.args, status, errs, tc.status, tc.about)
		}
	}
	if mounted(t, s.dir) {
		t.Error("it is still mounted after a lazy umount")
	}
	s.signal(unix.SIGCONT)
	c.Kill()
	s.wantStatus(0)

	// One that nobody uses goes without being asked.
	idle := root.mount(t, root.newDir(t, true))
	stop(t, idle.cmd.Process)
	if status, _, errs := root.run(t, "umount", idle.dir); status != 0 || errs != "" {
		t.Errorf("umount of what nobody uses: status %d, %q; want 0", status, errs)
	}
	idle.signal(unix.SIGCONT)
	idle.wantStatus(0)
}

// A parent of the mount point is renamed: the mount goes all the same, with the
// directory that was made for it, and what is in its place stays.
func TestMovedAway(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGQUIT} {
		s := root.mount(t, root.newDir(t, false))
		parent := filepath.Dir(s.dir)
		if err := errors.Join(os.Rename(parent, parent+"-moved"), os.Mkdir(parent, 0o755), os.Mkdir(s.dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		moved := filepath.Join(parent+"-moved", "mnt")
		if !mounted(t, moved) {
			t.Fatalf("%s is not mounted", moved)
		}
		s.signal(sig)
		s.wantStatus(map[unix.Signal]int{unix.SIGQUIT: 2}[sig])
		if errs := s.errs.String(); sig == unix.SIGTERM && errs != "" {
			t.Errorf("it said %q; want nothing", errs)
		}
		if mounted(t, moved) || exists(t, moved) || !exists(t, s.dir) {
			t.Errorf("%v: mounted %v, its directory is there %v, another in its place %v; want false, false, true",
				sig, mounted(t, moved), exists(t, moved), exists(t, s.dir))
		}
	}
}

// processes returns the processes that have all of these words in their command lines.
func processes(t *testing.T, words ...string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
next:
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		for _, w := range words {
			if !bytes.Contains(text, []byte(w)) {
				continue next
			}
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func TestDaemon(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := root.newDir(t, false)
	log := filepath.Join(t.TempDir(), "log")
	u := user{env: []string{"SLABFS_TEST_KEPT=yes"}}
	status, out, errs := u.run(t, "mount", "--daemon", "--load", "--log-file", log, "-o", "ro", dir)
	wantLine(t, "daemon", out, "mounted on "+dir)
	if status != 0 || errs != "" {
		t.Fatalf("mount --daemon: status %d, %q; want 0", status, errs)
	}
	c := root.client(t)
	if got := cat(c, filepath.Join(dir, "sys/kernel/slab/load-small/object_size")); got != "100\n" {
		t.Errorf("object_size of load-small = %q; want 100", got)
	}
	echoWant(c, unix.EROFS, filepath.Join(dir, "sys/kernel/slab/load-small/cpu_partial"), "1")

	pids := processes(t, dir, "--daemon")
	if len(pids) != 1 {
		t.Fatalf("processes with %s in their command lines: %v; want one", dir, pids)
	}
	proc := fmt.Sprintf("/proc/%d/", pids[0])
	env, err := os.ReadFile(proc + "environ")
	if err != nil || !bytes.Contains(env, []byte("SLABFS_TEST_KEPT=yes\x00")) {
		t.Errorf("environment of the daemon: %q, %v; want all that its parent had", env, err)
	}
	if sid, err := unix.Getsid(pids[0]); sid != pids[0] || err != nil {
		t.Errorf("session of daemon %d: %d, %v; want its own", pids[0], sid, err)
	}
	for link, want := range map[string]string{"cwd": "/", "fd/0": os.DevNull, "fd/1": os.DevNull, "fd/2": log} {
		if got, err := os.Readlink(proc + link); got != want || err != nil {
			t.Errorf("%s of the daemon: %q, %v; want %q", link, got, err, want)
		}
	}
	if status, _, errs := root.run(t, "umount", dir); status != 0 || errs != "" {
		t.Errorf("umount: status %d, %q; want 0", status, errs)
	}
	eventually(t, "the daemon ends", func() bool { return len(processes(t, dir)) == 0 })
	if exists(t, dir) {
		t.Error("the directory that the daemon made is still there")
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "unmounted") {
		t.Errorf("log: %q, %v; want a line about the unmount", text, err)
	}

	// Once more and at once: the daemon before may be ending.
	for range 5 {
		if status, _, errs := root.run(t, "mount", "--daemon", dir); status != 0 || errs != "" {
			t.Fatalf("mount --daemon: status %d, %q; want 0", status, errs)
		}
		if status, _, errs := root.run(t, "umount", dir); status != 0 || errs != "" {
			t.Fatalf("umount: status %d, %q; want 0", status, errs)
		}
	}
	eventually(t, "the last daemon ends", func() bool { return len(processes(t, dir)) == 0 })
}

// hearsSignals reports whether a mount command has its signals set up: it ignores
// SIGPIPE last of all.
func hearsSignals(pid int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, ignored, _ := strings.Cut(string(status), "SigIgn:\t")
	ignored, _, _ = strings.Cut(ignored, "\n")
	mask, _ := strconv.ParseUint(ignored, 16, 64)
	return mask&(1<<(unix.SIGPIPE-1)) != 0
}

// A signal ends the command from the first line on, while it waits for a reader
// of its log. A daemon ends with its parent.
func TestEndedBeforeMounted(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, daemon := range []bool{false, true} {
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGKILL} {
			if sig == unix.SIGKILL && !daemon {
				continue // it leaves nobody
			}
			dir := root.newDir(t, false)
			fifo := filepath.Join(t.TempDir(), "log")
			if err := unix.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"mount", "--log-file", fifo, dir}
			if daemon {
				args = append(args, "--daemon")
			}
			c := root.command(args...)
			var errs buffer
			errs.mu.Init(lockdep.Leaf)
			c.Stderr = &errs
			c.WaitDelay = time.Second // if a process is left, it has standard error
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it hears signals", func() bool {
				for _, pid := range processes(t, dir) {
					if (pid != c.Process.Pid) == daemon && hearsSignals(pid) {
						return true
					}
				}
				return false
			})
			if err := c.Process.Signal(sig); err != nil {
				t.Error(err)
			}
			deaf := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
			_ = c.Wait()
			deaf.Stop()
			eventually(t, fmt.Sprintf("all processes end after %v, daemon=%v", sig, daemon), func() bool { return len(processes(t, dir)) == 0 })
			if status := c.ProcessState.ExitCode(); !daemon && status != 0 {
				t.Errorf("after %v: status %d; want 0", sig, status)
			}
			if !daemon {
				wantLine(t, "a signal before the mount", errs.String(), "before anything was mounted")
			}
			if mounted(t, dir) || exists(t, dir) {
				t.Errorf("mounted %v, directory is there %v; want neither", mounted(t, dir), exists(t, dir))
			}
		}
	}
}

// A signal ends the command although mounting does not end, here in fusermount3.
func TestEndedWhileMounting(t *testing.T) {
	needRoot(t)
	t.Parallel()
	nobody := user{uid: testclient.Nobody}
	dir := nobody.newDir(t, true)
	programs := filepath.Dir(dir)
	asked := filepath.Join(programs, "asked")
	script := fmt.Sprintf("#!/bin/sh\nmkdir %s\nexec sleep 600\n", asked)
	if err := os.WriteFile(filepath.Join(programs, "fusermount3"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	nobody.env = []string{"PATH=" + programs + ":" + os.Getenv("PATH")}
	c := nobody.command("mount", dir)
	c.SysProcAttr.Setpgid = true
	errs, err := os.Create(filepath.Join(t.TempDir(), "errs"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	c.Stderr = errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Kill(-c.Process.Pid, unix.SIGKILL) }() // the script
	eventually(t, "fusermount3 is called", func() bool { return exists(t, asked) })
	if err := c.Process.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	deaf := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	_ = c.Wait()
	deaf.Stop()
	text, err := os.ReadFile(errs.Name())
	if err != nil {
		t.Fatal(err)
	}
	wantLine(t, "a mount that does not end", string(text), dir, "terminated", "umount --lazy")
	if status := c.ProcessState.ExitCode(); status != 2 {
		t.Errorf("status %d; want 2", status)
	}
}

// A daemon keeps nothing open of whoever started it, such as a lock.
func TestDaemonKeepsNothingOpen(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := root.newDir(t, true)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := root.command("mount", "--daemon", dir)
	c.ExtraFiles = []*os.File{w}
	status, _, errs := finish(t, c)
	if status != 0 {
		t.Fatalf("mount --daemon: status %d, %q; want 0", status, errs)
	}
	_ = w.Close()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read a pipe whose other end only a daemon can have: %v; want EOF", err)
	}
	if status, _, errs := root.run(t, "umount", dir); status != 0 {
		t.Errorf("umount: status %d, %q; want 0", status, errs)
	}
}

func TestDaemonFails(t *testing.T) {
	needRoot(t)
	t.Parallel()
	missing := filepath.Join(root.newDir(t, false), "deeper")
	dangling := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args   []string
		env    string
		status int
		about  string
	}{
		{args: []string{missing}, status: 2, about: "make its parent first"},
		{args: []string{root.newDir(t, true), "-o", "nonsense"}, status: 2, about: `mount option "nonsense"`},
		{args: []string{root.newDir(t, false), "--cache", "a:0"}, status: 1, about: "size"},
		{args: []string{root.newDir(t, false), "--log-file", "/tmp"}, status: 2, about: "is a directory"},
		{args: []string{"/proc/self"}, status: 2, about: "ps"},
		{args: []string{"/dev"}, status: 2, about: "/dev/fuse"},
		{args: []string{dangling}, status: 2, about: "dangling"},
		{args: []string{root.newDir(t, false)}, env: "SLABFS_PERCPU=nonsense", status: 2, about: "SLABFS_PERCPU"},
	} {
		for _, daemon := range []bool{false, true} {
			u := user{env: []string{tc.env}}
			args := append([]string{"mount"}, tc.args...)
			if daemon {
				args = append(args, "--daemon")
			}
			status, out, errs := u.run(t, args...)
			wantLine(t, strings.Join(args, " "), errs, tc.about)
			if status != tc.status || out != "" {
				t.Errorf("%q: status %d, output %q; want %d, nothing", args, status, out, tc.status)
			}
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args  string
		about []string
	}{
		{"", []string{"no command", "slabfs --help"}},
		{"mout dir", []string{`unknown command "mout"`}},
		{"--nonsense", []string{"unknown flag: --nonsense", "slabfs --help"}},
		{"mount", []string{"one directory", "slabfs mount --help"}},
		{"mount a b", []string{"one directory"}},
		{"mount --nonsense a", []string{"unknown flag", "slabfs mount --help"}},
		{"mount a --memory-limit 3X", []string{"--memory-limit", "64M"}},
		{"mount a --memory-limit -1", []string{"--memory-limit"}},
		{"mount a --memory-limit 99999999999G", []string{"--memory-limit"}},
		{"mount a --cache foo", []string{`"foo"`, "NAME:SIZE"}},
		{"mount a --cache foo:x", []string{"NAME:SIZE"}},
		{"mount a --cache foo:8:nonsense", []string{`"nonsense"`, "no_merge"}},
		{"mount a --cache .foo:8", []string{".foo"}},
		{"mount a --cache foo:5000000", []string{"4194304"}},
		{"mount a --cache foo:8 --cache foo:9", []string{"taken"}},
		{"mount a --cache kmalloc-64:64", []string{"taken"}},
		{"mount a --cache load-small:8 --load", []string{"load-small"}},
		{"umount", []string{"one directory"}},
		{"version x", []string{"version"}},
		{"help bogus", []string{"unknown command", `"bogus"`, "slabfs --help"}},
		{"help mount bogus", []string{`"mount bogus"`}},
		{"stress --duration -1s", []string{"--duration", "above 0"}},
		{"stress --duration 0", []string{"--duration", "above 0"}},
		{"stress --deadline 0", []string{"--deadline", "above 0"}},
		{"stress --deadline -5s", []string{"--deadline", "above 0"}},
		{"stress --seed -1", []string{"--seed", "from 0 to 18446744073709551615"}},
		{"bench --duration -1ms", []string{"--duration", "above 0"}},
		{"bench --rounds -1", []string{"more than zero"}},
	} {
		status, out, errs := root.run(t, strings.Fields(tc.args)...)
		wantLine(t, "slabfs "+tc.args, errs, tc.about...)
		if status != 1 || out != "" {
			t.Errorf("slabfs %s: status %d, output %q; want 1, nothing", tc.args, status, out)
		}
	}
	if exists(t, "/a") { // where commands run
		t.Error("a wrong command line made a directory")
	}
	for args, want := range map[string]string{
		"version":       "slabfs 0.",
		"--version":     "slabfs 0.",
		"--help":        "slabfs mount --load ./mnt",
		"mount --help":  "--memory-limit",
		"help mount":    "slabfs mount --daemon",
		"umount --help": "--lazy",
	} {
		status, out, errs := root.run(t, strings.Fields(args)...)
		if status != 0 || errs != "" || !strings.Contains(out, want) {
			t.Errorf("slabfs %s: status %d, %q, output\n%swant 0 and %q", args, status, errs, out, want)
		}
	}
}

// What cannot be written down is no success.
func TestFullOutput(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"version", "--version", "--help", "help mount", "stress --help"} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := root.command(strings.Fields(args)...)
		var errs bytes.Buffer
		c.Stdout, c.Stderr = full, &errs
		_ = c.Run()
		full.Close()
		wantLine(t, args, errs.String(), "no space left on device")
		if status := c.ProcessState.ExitCode(); status != 2 {
			t.Errorf("slabfs %s > /dev/full: status %d; want 2", args, status)
		}
	}
}

// Where too few files may be open there is an error, and enough is enough.
func TestFewOpenFiles(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for n := 3; n < 16; n++ {
		u := user{shell: fmt.Sprintf("ulimit -n %d", n)}
		for _, args := range [][]string{{"version"}, {"mount", root.newDir(t, false)}} {
			status, _, errs := u.run(t, args...)
			if n < 5 { // the shell itself, or the loader, may fail
				continue
			}
			wantLine(t, fmt.Sprintf("%q with %d files", args, n), errs, "RLIMIT_NOFILE", "ulimit -n 1024")
			if status != 2 {
				t.Errorf("%q with %d files: status %d; want 2", args, n, status)
			}
		}
	}
	s := user{shell: "ulimit -n 16"}.mount(t, root.newDir(t, false), "--load")
	cat(root.client(t), s.attr("load-small", "objects"))
}

func TestMountFlags(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := root.newDir(t, true)
	s := root.mount(t, dir, "--cache", "req:200", "--memory-limit", "64M", "--cache=conn:1000:hwcache_align,no_merge,reclaim_account", "--cache=rcu:100:typesafe_by_rcu", "--cache=large:2k")
	c := root.client(t)
	for path, want := range map[string]string{
		s.attr("req", "object_size"):        "200\n",
		s.attr("req", "hwcache_align"):      "0\n",
		s.attr("conn", "slab_size"):         "1024\n",
		s.attr("conn", "hwcache_align"):     "1\n",
		s.attr("conn", "reclaim_account"):   "1\n",
		s.attr("conn", "destroy_by_rcu"):    "0\n",
		s.attr("rcu", "destroy_by_rcu"):     "1\n",
		s.attr("large", "object_size"):      "2048\n",
		s.module("parameters/memory_limit"): "67108864\n",
	} {
		if got := cat(c, path); got != want {
			t.Errorf("%s: %q; want %q", path, got, want)
		}
	}
}

// Directories that cannot be mounted on.
func TestMountPoints(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := root.newDir(t, true)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "x"), filepath.Join(dir, "no", "such")} {
		status, _, errs := root.run(t, "mount", path)
		wantLine(t, "mount "+path, errs, filepath.Base(path))
		if status != 2 {
			t.Errorf("mount %s: status %d; want 2", path, status)
		}
	}
	// A directory with content is hidden, and there again afterwards. So is one
	// behind a symbolic link.
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	s := root.mount(t, link)
	if !mounted(t, dir) {
		t.Errorf("%s is not mounted on what it points to", link)
	}
	cat(root.client(t), s.module("version"))
	s.signal(unix.SIGTERM)
	s.wantStatus(0)
	if !exists(t, file) || !exists(t, link) {
		t.Error("what was below the mount point is gone")
	}
}

// A user can clean neither what a server of root left, nor unmount it.
func TestPlainUserIsRefused(t *testing.T) {
	t.Parallel()
	if !asPlainUser(t) {
		return
	}
	nobody := user{uid: testclient.Nobody}
	s := root.mount(t, nobody.newDir(t, true))
	status, _, errs := nobody.run(t, "umount", s.dir)
	wantLine(t, "umount of a mount of root", errs, s.dir)
	if status != 2 || !mounted(t, s.dir) {
		t.Errorf("umount of a mount of root: status %d, mounted %v; want 2, true", status, mounted(t, s.dir))
	}
	s.kill()
	for _, flags := range [][]string{nil, {"--daemon"}} {
		status, _, errs = nobody.run(t, append([]string{"mount", s.dir}, flags...)...)
		wantLine(t, "mount over a stale mount of root", errs, s.dir, "umount -l")
		if status != 3 {
			t.Errorf("mount %q over a stale mount of root: status %d; want 3", flags, status)
		}
	}
	if status, _, errs := root.run(t, "umount", s.dir); status != 0 {
		t.Errorf("umount of a stale mount: status %d, %q; want 0", status, errs)
	}
	if conf, _ := os.ReadFile("/etc/fuse.conf"); !bytes.Contains(append([]byte("\n"), conf...), []byte("\nuser_allow_other")) {
		status, _, errs := nobody.run(t, "mount", nobody.newDir(t, true), "-o", "allow_other")
		lines := strings.SplitAfter(strings.TrimSuffix(errs, "\n"), "\n") // fusermount3 has its say first
		wantLine(t, "allow_other of a user", lines[len(lines)-1]+"\n", "user_allow_other")
		if status != 2 {
			t.Errorf("mount -o allow_other of a user: status %d; want 2", status)
		}
	}
	s = nobody.mount(t, nobody.newDir(t, false))
	s.kill()
	s = nobody.mount(t, s.dir)
	if status, _, errs := nobody.run(t, "umount", s.dir); status != 0 {
		t.Errorf("umount of one's own mount: status %d, %q; want 0", status, errs)
	}
	s.wantStatus(0)
}
