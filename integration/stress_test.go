package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/internal/fault"
	"slabfs/internal/testclient"
	"slabfs/sysfs"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// scratch returns a directory for what slabfs stress makes, and the user who
// runs it there. When the test ends, nothing may be left: no file, no mount, no
// process.
func (u user) scratch(t *testing.T) (user, string) {
	t.Helper()
	dir := filepath.Dir(u.newDir(t, false))
	env := "TMPDIR=" + dir
	u.env = append(u.env, env)
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
		if left, err := mountsBelow(dir); err != nil || len(left) > 0 {
			t.Errorf("mounts are left: %q, %v", left, err)
		}
		if left := processesWith(t, env); len(left) > 0 {
			t.Errorf("processes are left: %q", left)
		}
	})
	return u, dir
}

// processesWith returns the directories in /proc of the processes that have this in their environment.
func processesWith(t *testing.T, env string) (dirs []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(env+"\x00")) {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	return dirs
}

// The full run holds, on any number of processors and on one, as root and as a
// plain user.
func TestStress(t *testing.T) {
	needRoot(t)
	t.Parallel()
	root.stress(t)
}

func TestStressOnOneProcessor(t *testing.T) {
	needRoot(t)
	t.Parallel()
	user{env: []string{"GOMAXPROCS=1"}}.stress(t)
}

func TestStressAsPlainUser(t *testing.T) {
	t.Parallel()
	if asPlainUser(t) {
		user{uid: testclient.Nobody}.stress(t, "--dir")
	}
}

// stress runs until the run is conclusive: how soon is a matter of the machine.
func (u user) stress(t *testing.T, flags ...string) {
	u, dir := u.scratch(t)
	if len(flags) > 0 {
		flags = append(flags, filepath.Join(dir, "mnt"))
	}
	for d := 5 * time.Second; ; d *= 2 {
		status, out, errs := u.run(t, append([]string{"stress", "--seed", "1", "--duration", d.String()}, flags...)...)
		if status == 5 && strings.Contains(errs, "inconclusive") && d < patience/2 {
			continue
		}
		if status != 0 || errs != "" {
			t.Errorf("status %d, standard error %q; want 0 and nothing; standard output:\n%s", status, errs, out)
		}
		for _, want := range []string{
			`(?m)^slabfs stress --seed 1$`, `(?m)^ *count +refused +slowest +violations +operation$`,
			`(?m)^ *[1-9]\d* .* create$`, `(?m)^ *[1-9]\d* .* destroy$`, `(?m)^ *[1-9]\d* .* echo > new_cache$`, `(?m)^ *[1-9]\d* .* echo > delete_cache$`,
			`(?m)^ *[1-9]\d* .* store$`, `(?m)^ *[1-9]\d* .* read$`, `(?m)^ *[1-9]\d* .* allocate and free 64$`, `(?m)^ *[1-9]\d* .* hotplug lock, written$`,
			`(?m)^ *[1-9]\d* +stores in flight when a drain began$`, `(?m)^ *[1-9]\d* +drains that waited$`,
			`(?m)^ *[1-9]\d* +creates refused for a dying name$`, `(?m)^ *[1-9]\d* +hotplug writers that waited$`,
			`(?m)^ *[1-9]\d* +allocations refused at the memory limit$`,
			`(?m)^ *[1-9]\d* .* CPU online$`, `(?m)^ *[1-9]\d* .* echo 0 > cpuN/online$`, `(?m)^ *[1-9]\d* .* RCU section$`,
			`(?m)^ *[1-9]\d* +destroys of a typesafe-by-RCU cache that met another$`,
			`(?m)^ *[1-9]\d* +typesafe-by-RCU caches released in one batch with others$`,
			`(?m)^ *[1-9]\d* +objects freed while a reader looked at them in a section$`,
			`(?m)^ *[1-9]\d* +notifications answered$`, `(?m)^seed 1, .* operations a second, 0 violations$`,
			`(?m)^throughput: [1-9]\d* operations in the median second, quartiles \d+ and \d+; \d+ % were not refused$`,
		} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("the table does not match %q:\n%s", want, out)
			}
		}
		t.Log(out)
		return
	}
}

// A signal ends the run early, with the table; a second one at once.
func TestStressInterrupted(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, signals := range []int{1, 2} {
		t.Run(strconv.Itoa(signals), func(t *testing.T) {
			u, dir := root.scratch(t)
			c, out, errs := u.startStress(t, dir)
			time.Sleep(time.Second) // let them work
			for range signals {
				if err := c.Process.Signal(unix.SIGINT); err != nil {
					t.Error(err)
				}
			}
			status := endStress(t, c, errs)
			if inconclusive := status == 5 && strings.Contains(errs.String(), "inconclusive"); status != 0 && !inconclusive {
				t.Errorf("status %d: %s; want 0, or 5 and a word on what did not happen", status, errs)
			}
			if !strings.Contains(out.String(), "seed 2, ") {
				t.Errorf("no table after %d signals:\n%s", signals, out)
			}
		})
	}
}

// startStress starts a run that goes on until it is ended, and waits until it is under way.
func (u user) startStress(t *testing.T, dir string, flags ...string) (c *exec.Cmd, out, errs *bytes.Buffer) {
	t.Helper()
	c = u.command(append([]string{"stress", "--duration", "10m", "--seed", "2"}, flags...)...)
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	c.Stdout, c.Stderr = out, errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the work of actors", func() bool {
		mounts, err := mountsBelow(dir)
		if err != nil || len(mounts) == 0 {
			return false
		}
		_, err = os.Stat(filepath.Join(mounts[0], "sys/kernel/slab/alloc0"))
		return err == nil
	})
	return c, out, errs
}

// endStress waits for the end of a run.
func endStress(t *testing.T, c *exec.Cmd, errs *bytes.Buffer) (status int) {
	t.Helper()
	timer := time.AfterFunc(patience, func() { _ = c.Process.Signal(unix.SIGQUIT) })
	_ = c.Wait()
	if !timer.Stop() {
		t.Fatalf("did not end within %v:\n%s", patience, errs)
	}
	return c.ProcessState.ExitCode()
}

// rolesOf returns the processes of a run in a role.
func rolesOf(t *testing.T, run *exec.Cmd, role string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		stat, _ := os.ReadFile(file)
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		fields := strings.Fields(string(rest))
		if len(fields) > 1 && fields[1] == strconv.Itoa(run.Process.Pid) && bytes.Contains(args, []byte("\x00stress\x00"+role+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// Whatever happens to the processes of a run, it ends and leaves nothing behind
// (scratch checks that), and what it did not see it does not call good.
func TestStressProcesses(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, tc := range []struct {
		name, role string
		sig        unix.Signal
		flags      []string
		want       string // a regular expression
	}{
		// One of its threads may wait in the kernel, for a client that it was to answer:
		// then it is not gone before the connection is.
		{"the world is killed", "world", unix.SIGKILL, []string{"--deadline=4s"}, "the process of the allocator (ended with signal: killed|has said nothing for 4.)"},
		{"the world stops", "world", unix.SIGSTOP, []string{"--deadline=2s"}, "the process of the allocator has said nothing for 2."},
		{"the judge is killed", "judge", unix.SIGKILL, nil, "inconclusive: the judge ended without a verdict"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u, dir := root.scratch(t)
			c, _, errs := u.startStress(t, dir, tc.flags...)
			for _, pid := range rolesOf(t, c, tc.role) {
				if err := unix.Kill(pid, tc.sig); err != nil {
					t.Error(err)
				}
			}
			if status := endStress(t, c, errs); status != 5 || !regexp.MustCompile(tc.want).Match(errs.Bytes()) {
				t.Errorf("status %d, standard error:\n%.3000s\nwant 5, and %q", status, errs, tc.want)
			}
		})
	}
	// Who started it all is killed: nobody is left who could remove anything for the
	// others, so they do it themselves, also if they were stopped.
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("the first is killed, the world stopped=%v", stopped), func(t *testing.T) {
			t.Parallel()
			u, dir := root.scratch(t)
			c, _, _ := u.startStress(t, dir)
			if stopped {
				for _, pid := range rolesOf(t, c, "world") {
					if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
						t.Error(err)
					}
				}
			}
			if err := c.Process.Kill(); err != nil {
				t.Error(err)
			}
			eventually(t, "the end of the others", func() bool {
				left, err := os.ReadDir(dir)
				return err == nil && len(left) == 0
			})
			_ = c.Wait()
			eventually(t, "the end of their processes", func() bool { return len(processesWith(t, "TMPDIR="+dir)) == 0 })
		})
	}
}

// The process that judges is not told what mistake the other makes.
func TestStressJudgeIsNotTold(t *testing.T) {
	needRoot(t)
	t.Parallel()
	u, dir := root.scratch(t)
	c, _, errs := u.startStress(t, dir, "--inject=unlink-under-locks", "--hotplug=false")
	for role, told := range map[string]bool{"world": true, "judge": false} {
		pids := rolesOf(t, c, role)
		if len(pids) != 1 {
			t.Errorf("processes %v are the %s; want one", pids, role)
			continue
		}
		for _, file := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pids[0]), file))
			if got, want := bytes.Contains(data, []byte("unlink-under-locks")), told && file == "cmdline"; err != nil || got != want {
				t.Errorf("%s of the %s names the mistake: %v, %v; want %v", file, role, got, err, want)
			}
		}
	}
	if err := c.Process.Signal(unix.SIGINT); err != nil {
		t.Error(err)
	}
	endStress(t, c, errs)
}

func TestStressHelp(t *testing.T) {
	t.Parallel()
	status, out, errs := root.run(t, "stress", "--help")
	if status != 0 || errs != "" {
		t.Errorf("status %d, standard error %q; want 0 and nothing", status, errs)
	}
	for _, want := range append(fault.Names(), "destroy_rcu", "takes CPUs offline", "--inject", "--actors", "slabfs stress --seed 7") {
		if !strings.Contains(out, want) {
			t.Errorf("the help has no %q:\n%s", want, out)
		}
	}
}

func TestStressUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args  []string
		about string
	}{
		{[]string{"now"}, "now"},
		{[]string{"--actors", "stores=1"}, "stores"},
		{[]string{"--duration", "10"}, "duration"},
		{[]string{"--inject", "late-lunch"}, "late-unlink"},
	} {
		status, out, errs := root.run(t, append([]string{"stress"}, tc.args...)...)
		if status != 1 || out != "" {
			t.Errorf("slabfs stress %q: status %d, standard output %q; want 1 and nothing", tc.args, status, out)
		}
		wantLine(t, "slabfs stress "+strings.Join(tc.args, " "), errs, tc.about)
	}
}

// A client whose write(2) waits for a page of its buffer holds the kernel's lock of
// the file before the server hears of the write, for as long as it likes. Destroy,
// create, Unmount and Close do not wait for it.
func TestDestroyWithStuckWriter(t *testing.T) {
	needRoot(t)
	t.Parallel()
	faulted, resolve := make(chan struct{}), make(chan struct{})
	stalled := sysfs.NewTree()
	if err := stalled.Root().AddFile(nil, &sysfs.Attribute{Name: "page", Mode: 0o400,
		Show: func(_ context.Context, _ any, w *bytes.Buffer) error {
			close(faulted)
			<-resolve
			w.WriteString("77\n")
			return nil
		}}); err != nil {
		t.Fatal(err)
	}
	stall, err := fusefs.Mount(root.newDir(t, true), stalled, fusefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := stall.Unmount(ctx); err != nil {
			t.Error(err)
		}
	}()

	a, err := alloc.New(alloc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := slabattr.Mount(root.newDir(t, true), a, fusefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.NewCache("stuck", 64, alloc.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	caches := filepath.Join(srv.Dir(), "sys/kernel/slab")
	file := filepath.Join(caches, "stuck/cpu_partial")
	writer, reader := root.client(t), root.client(t)
	page := writer.OK(Op{Do: "open", Path: filepath.Join(stall.Dir(), "page"), Flags: unix.O_RDONLY})
	buf := writer.OK(Op{Do: "mmap", FD: page.FD, Size: sysfs.PageSize})
	fd := writer.OK(Op{Do: "open", Path: file, Flags: unix.O_WRONLY}).FD
	write := writer.Go(Op{Do: "writemap", FD: fd, Map: buf.Map, Size: 3})
	<-faulted

	before := reader.OK(Op{Do: "readdir", Path: caches})
	within(t, "destroy", func() {
		if err := c.Destroy(); err != nil {
			t.Error(err)
		}
	})
	reader.Want(unix.ENOENT, Op{Do: "open", Path: file, Flags: unix.O_WRONLY})
	if after := reader.OK(Op{Do: "readdir", Path: caches}); len(after.Entries) != len(before.Entries)-1 {
		t.Errorf("%d entries, %d after the destroy of one; want one less", len(before.Entries), len(after.Entries))
	}
	within(t, "create", func() {
		if _, err := a.NewCache("stuck", 128, alloc.CacheOptions{}); err != nil {
			t.Error(err)
		}
	})
	if got := cat(reader, filepath.Join(caches, "stuck/object_size")); got != "128\n" {
		t.Errorf("object_size of the new cache is %q; want 128", got)
	}
	echo(reader, file, "10")
	if _, ok := write.Try(0); ok {
		t.Error("the write has ended, without its page")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	within(t, "unmount", func() {
		if err := srv.Unmount(ctx); !errors.Is(err, fusefs.ErrDetached) {
			t.Errorf("unmount with a descriptor open: %v; want %v", err, fusefs.ErrDetached)
		}
	})
	within(t, "close", func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	close(resolve)
	if r := write.Wait(); r.Errno != unix.ENODEV {
		t.Errorf("the write at last: %v; want ENODEV", r.Errno)
	}
	writer.Kill()
}

// within fails the test if f takes as long as what waits for somebody who never comes.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s did not end within %v", what, patience)
	}
}
