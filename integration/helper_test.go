package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mount8 is mount(8), umount(8), or what they would run.
func mount8(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return finish(t, exec.Command(args[0], args[1:]...))
}

// mount(8) finds the command by itself, and by way of mount.fuse3. In a mount
// namespace of its own, where the command can be put where mount(8) looks.
func TestMountHelper(t *testing.T) {
	needRoot(t)
	needProgram(t, "mount.fuse3", "package fuse3")
	if os.Getenv(insideEnv) == "" {
		t.Parallel()
		inside(t)
		return
	}
	for _, tc := range []struct{ name, dir, link string }{
		{"slabfs by mount.fuse3", "/usr/local/sbin", "slabfs"},
		{"mount.fuse.slabfs", "/sbin", "mount.fuse.slabfs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			programs := t.TempDir()
			if err := os.Symlink(binary, filepath.Join(programs, tc.link)); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount(programs, tc.dir, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := unix.Unmount(tc.dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			}()
			mountHelper(t)
		})
	}
}

func mountHelper(t *testing.T) {
	c := root.client(t)
	good := func(args ...string) {
		t.Helper()
		if status, out, errs := mount8(t, args...); status != 0 || out+errs != "" {
			t.Fatalf("%q: status %d, %q, %q; want 0 and silence", args, status, out, errs)
		}
	}
	bad := func(want int, about string, args ...string) {
		t.Helper()
		status, out, errs := mount8(t, args...)
		wantLine(t, fmt.Sprintf("%q", args), errs, about)
		if status != want || out != "" {
			t.Errorf("%q: status %d, output %q; want %d, nothing", args, status, out, want)
		}
	}
	ended := func(dir string) {
		t.Helper()
		eventually(t, "umount ends the daemon", func() bool { return len(processes(t, dir, "slabfs\x00")) == 0 })
	}

	dir := root.newDir(t, true)
	options := `rw,user,nofail,_netdev,x-any=thing,noatime,dev,suid,load,memory_limit=64M,cache=req:200,cache="conn:1000:hwcache_align,no_merge"`
	good("mount", "-t", "fuse.slabfs", "none", dir, "-o", options)
	for file, want := range map[string]string{
		"sys/kernel/slab/req/object_size":                     "200\n",
		"sys/kernel/slab/conn/hwcache_align":                  "1\n",
		"sys/module/slabfs/load/running":                      "1\n",
		"sys/module/slabfs/parameters/memory_limit":           "67108864\n",
		"sys/kernel/slab/load-small/remote_node_defrag_ratio": "100\n",
	} {
		if got := cat(c, filepath.Join(dir, file)); got != want {
			t.Errorf("%s = %q; want %q", file, got, want)
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) != 1 || !strings.HasPrefix(mounts[0].Options, "rw,nosuid,nodev,noexec") {
		t.Errorf("mounts on %s: %+v, %v; want one, nosuid,nodev,noexec in any case", dir, mounts, err)
	}
	bad(2, "already mounted", "mount", "-t", "fuse.slabfs", "none", dir)
	bad(1, "unmount it and mount it again", "mount", "-t", "fuse.slabfs", "none", dir, "-o", "remount,ro")
	good("umount", dir)
	ended(dir)

	good("mount", "-t", "fuse.slabfs", "none", dir, "-r")
	echoWant(c, unix.EROFS, filepath.Join(dir, "sys/kernel/slab/kmalloc-8/cpu_partial"), "1")
	good("umount", dir)
	ended(dir)

	// A second mount -a finds it mounted, because the source is the same.
	table := filepath.Join(t.TempDir(), "fstab")
	line := fmt.Sprintf("slabfs %s fuse.slabfs defaults,nofail,x-systemd.automount,load 0 0\n", dir)
	if err := os.WriteFile(table, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		good("mount", "-T", table, "-a")
	}
	cat(c, filepath.Join(dir, "sys/kernel/slab/load-small/objects"))
	good("umount", dir)
	ended(dir)

	for option, about := range map[string]string{
		"nonsense":        `"nonsense": unknown; want a flag of slabfs mount`,
		"nonsense=1,load": `"nonsense=1": unknown`,
		"daemon":          `"daemon": unknown`,
		"options=ro":      `"options=ro": unknown`,
		"help":            `"help": unknown`,
		"cache":           "want cache=VALUE",
		"cache=req":       "NAME:SIZE",
		"cache=req:0":     "size of 0 bytes",
		"load=maybe":      `"load=maybe"`,
		"memory_limit=3X": "64M",
	} {
		bad(1, about, "mount", "-t", "fuse.slabfs", "none", dir, "-o", option)
	}
	t.Setenv("SLABFS_PERCPU", "nonsense")
	bad(2, "SLABFS_PERCPU", "mount", "-t", "fuse.slabfs", "none", dir)
	if mounted(t, dir) || len(processes(t, dir, "slabfs\x00")) > 0 {
		t.Error("a failed mount left something")
	}
}

// What mount(8) may pass besides options.
func TestMountHelperFlags(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := root.newDir(t, true)
	link := filepath.Join(filepath.Dir(dir), "mount.fuse.slabfs")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args   []string
		status int
		said   string // on standard output
		about  string // on standard error
		mounts bool
	}{
		{args: []string{link, "none", dir, "-n", "-t", "fuse.slabfs", "-o", "rw"}, mounts: true},
		{args: []string{link, "none", dir, "-v"}, said: "mounted on " + dir, mounts: true},
		{args: []string{link, "none", dir, "-s", "-o", "nonsense"}, mounts: true},
		{args: []string{link, "mount", dir, "-o", "rw"}, mounts: true},
		{args: []string{link, "none", dir, "-f", "-o", "rw"}},
		{args: []string{link, "none", dir, "-f", "-o", "nonsense"}, status: 1, about: `"nonsense"`},
		{args: []string{link, "none", dir, "-N", "1"}, status: 1, about: "-N"},
		{args: []string{link, "none"}, status: 1, about: "want SPEC DIR"},
		{args: []string{binary, "none", dir, "-o", "rw"}, mounts: true},
		{args: []string{binary, "none", dir}, status: 1, about: `unknown command "none"`},
		{args: []string{binary, "none", "relative", "-o", "rw"}, status: 1},
	} {
		status, out, errs := mount8(t, tc.args...)
		if status != tc.status || !strings.HasPrefix(out, tc.said) || (out == "") != (tc.said == "") {
			t.Errorf("%q: status %d, output %q, %q; want %d, %q", tc.args[1:], status, out, errs, tc.status, tc.said)
		}
		if tc.status != 0 {
			wantLine(t, fmt.Sprintf("%q", tc.args[1:]), errs, tc.about)
		}
		if got := mounted(t, dir); got != tc.mounts {
			t.Errorf("%q: mounted %v; want %v", tc.args[1:], got, tc.mounts)
		}
		if tc.mounts {
			if status, _, errs := root.run(t, "umount", dir); status != 0 {
				t.Errorf("umount: status %d, %q; want 0", status, errs)
			}
		}
	}
	eventually(t, "the daemons end", func() bool { return len(processes(t, dir)) == 0 })
}
