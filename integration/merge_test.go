package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// output runs a command of the machine to its end, which must go well, and returns
// its lines.
func output(t *testing.T, name string, args ...string) []string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	status, out, errs := finish(t, c)
	if status != 0 || errs != "" {
		t.Errorf("%s %q: status %d, %s", name, args, status, errs)
	}
	return strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
}

// Names of one size are links to the directory that they share, for as long as one is left.
func TestMerge(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true), "--cache", "foo:190", "--cache", "bar:192", "--cache", "solo:192:no_merge")
	c := root.client(t)
	slab := s.path("sys/kernel/slab")
	if got := output(t, "readlink", filepath.Join(slab, "foo"), filepath.Join(slab, "bar")); !slices.Equal(got, []string{":0000192", ":0000192"}) {
		t.Errorf("readlink foo bar: %q; want :0000192 twice", got)
	}
	list := strings.Join(output(t, "ls", "-l", slab), "\n")
	for _, want := range []string{`(?m)^drwxr-xr-x .* :0000192$`, `(?m)^lrwxrwxrwx .* foo -> :0000192$`, `(?m)^lrwxrwxrwx .* bar -> :0000192$`, `(?m)^drwxr-xr-x .* solo$`} {
		if !regexp.MustCompile(want).MatchString(list) {
			t.Errorf("ls -l does not match %q:\n%s", want, list)
		}
	}
	links := c.OK(Op{Do: "stat", Path: slab}).Stat.Nlink
	if dirs := len(output(t, "find", slab, "-mindepth", "1", "-maxdepth", "1", "-type", "d")); int(links) != 2+dirs {
		t.Errorf("%d links, %d directories; want 2 more, as links are not counted", links, dirs)
	}
	for file, want := range map[string]string{"aliases": "1\n", "object_size": "192\n", "cpu_partial": "120\n"} {
		if got := cat(c, s.attr("foo", file)); got != want {
			t.Errorf("foo/%s = %q; want %q", file, got, want)
		}
	}
	echo(c, s.attr("foo", "cpu_partial"), "30")
	if got := cat(c, s.attr("bar", "cpu_partial")); got != "30\n" {
		t.Errorf("bar/cpu_partial = %q after a write through foo; want 30", got)
	}
	fd := c.OK(Op{Do: "open", Path: s.attr("foo", "cpu_partial"), Flags: unix.O_RDWR}).FD
	destroy := s.module("delete_cache")
	echoWant(c, unix.ENOENT, destroy, ":0000192")
	echo(c, destroy, "foo")
	c.Want(unix.ENOENT, Op{Do: "lstat", Path: filepath.Join(slab, "foo")})
	c.OK(Op{Do: "pwrite", FD: fd, Data: []byte("31")})
	if got := cat(c, s.attr("bar", "cpu_partial")) + cat(c, s.attr("bar", "aliases")) + cat(c, s.attr(":0000192", "object_size")); got != "31\n0\n192\n" {
		t.Errorf("cpu_partial, aliases, object_size of what is left: %q", got)
	}
	if got := cat(c, s.path("proc/slabinfo")); !strings.Contains(got, "\nbar ") || strings.Contains(got, "\nfoo ") || strings.Contains(got, "\n:") {
		t.Errorf("proc/slabinfo:\n%s", got)
	}
	echo(c, destroy, "bar")
	c.Want(unix.ENODEV, Op{Do: "pwrite", FD: fd, Data: []byte("32")})
	for _, name := range []string{"bar", ":0000192"} {
		c.Want(unix.ENOENT, Op{Do: "lstat", Path: filepath.Join(slab, name)})
	}
	echo(c, s.module("new_cache"), "solo2 192")
	echo(c, destroy, "solo")
	echo(c, s.module("new_cache"), "solo 190") // a link where a directory was
	if got := output(t, "readlink", filepath.Join(slab, "solo")); !slices.Equal(got, []string{":0000192"}) {
		t.Errorf("readlink solo: %q; want :0000192", got)
	}
	c.OK(Op{Do: "close", FD: fd})
}

func TestNoMerge(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true), "--no-merge", "--cache", "foo:192", "--cache", "bar:192")
	if got := output(t, "find", s.path("sys/kernel/slab"), "-type", "l", "-o", "-name", ":*"); len(got) > 0 {
		t.Errorf("links and ids with --no-merge: %q", got)
	}
	if got := cat(root.client(t), s.attr("foo", "aliases")); got != "0\n" {
		t.Errorf("foo/aliases = %q; want 0", got)
	}
}

// Whoever looks while names come and go finds no link that leads nowhere.
func TestNoDanglingLink(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true))
	slab := s.path("sys/kernel/slab")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		c := root.client(t)
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("g%d.%d", g, n) // never again: find looks twice
				echo(c, s.module("new_cache"), name+" 192")
				echo(c, s.module("delete_cache"), name)
			}
		})
	}
	looker, links := root.client(t), 0
	for round := 0; (round < 50 || links == 0) && !t.Failed(); round++ {
		var out bytes.Buffer
		find := exec.Command("find", "-L", slab, "-ignore_readdir_race", "-maxdepth", "1", "-type", "l")
		find.Stdout = &out // what it says of names that went while it looked is no matter
		if err := find.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		for _, link := range strings.Fields(out.String()) {
			t.Logf("seen dangling: %s", link)
			// The kernel may believe in a name for a second where a notification came too late.
			eventually(t, link+" is gone", func() bool {
				_, err := os.Lstat(link)
				return errors.Is(err, fs.ErrNotExist)
			})
		}
		for _, e := range looker.OK(Op{Do: "readdir", Path: slab}).Entries {
			if e.Type == unix.DT_LNK {
				links++
			}
		}
	}
	close(stop)
	wg.Wait()
	if got := output(t, "find", slab, "-mindepth", "1", "-maxdepth", "1", "-not", "-name", "kmalloc-*"); len(got) > 0 {
		t.Errorf("left are %q", got)
	}
}
