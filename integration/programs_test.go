package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A 32-bit program lists a directory, and seeks to each of its offsets.
func TestDir32(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the processor runs no programs for 386")
	}
	t.Parallel()
	program := filepath.Join(t.TempDir(), "dir32")
	build := exec.Command("go", "build", "-o", program, "./testdata/dir32")
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build it: %v\n%s", err, out)
	}
	s := root.mount(t, root.newDir(t, true), "--cache", "foo:190", "--cache", "bar:192")
	c := root.client(t)
	for _, dir := range []string{"sys/kernel/slab", "sys/kernel/slab/foo/", "sys/module/slabfs/parameters"} {
		var want []string
		for _, e := range c.OK(Op{Do: "readdir", Path: s.path(dir)}).Entries {
			want = append(want, e.Name)
		}
		if got := output(t, program, s.path(dir)); !slices.Equal(got, want) {
			t.Errorf("%s: %q; want %q", dir, got, want)
		}
	}
}

// Programs that let the kernel copy get the content of files that have no size
// of their own. A table that is longer than one request comes from one moment
// too.
func TestCopyingPrograms(t *testing.T) {
	needRoot(t)
	needProgram(t, "busybox", "package busybox")
	t.Parallel()
	s := root.mount(t, root.newDir(t, true))
	c := root.client(t)
	path, copied := s.path("proc/slabinfo"), filepath.Join(t.TempDir(), "copied")
	for i := range 1000 {
		echo(c, s.module("new_cache"), "long-name-to-fill-the-table-"+strings.Repeat("x", 20)+"-"+string(rune('a'+i/26/26))+string(rune('a'+i/26%26))+string(rune('a'+i%26))+" 8 flags=no_merge")
	}
	want := cat(c, path)
	if size := c.OK(Op{Do: "stat", Path: path}).Stat.Size; len(want) < 128<<10 || size < int64(len(want)) {
		t.Fatalf("slabinfo has %d bytes, and a size of %d; want many, and not less", len(want), size)
	}
	for _, command := range [][]string{
		{"busybox", "cat", path}, {"busybox", "cp", path, copied}, {"cp", path, copied}, {"cat", path},
		{"dd", "if=" + path, "status=none", "bs=1M"}, {"busybox", "dd", "if=" + path, "of=" + copied, "bs=333"},
	} {
		if err := os.WriteFile(copied, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		status, out, errs := finish(t, exec.Command(command[0], command[1:]...))
		if status != 0 {
			t.Errorf("%q: status %d, %s", command, status, errs)
		}
		data, err := os.ReadFile(copied)
		if err != nil {
			t.Fatal(err)
		}
		if got := out + string(data); got != want {
			t.Errorf("%q copies %d bytes; want the %d of the table", command, len(got), len(want))
		}
	}
	if got := output(t, "wc", "-c", path); len(got) != 1 || strings.Fields(got[0])[0] != strconv.Itoa(len(want)) {
		t.Errorf("wc -c: %q; want %d", got, len(want))
	}
}
