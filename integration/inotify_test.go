package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What comes by inotify is what docs/abi/slab.md says: what clients do to a
// file, and nothing of caches that come and go.
func TestInotify(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true), "--cache", "foo:190:no_merge")
	c := root.client(t)
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	what := map[uint32]string{}
	for name, path := range map[string]string{"slab": s.path("sys/kernel/slab"), "foo": s.path("sys/kernel/slab/foo"), "file": s.attr("foo", "cpu_partial")} {
		wd, err := unix.InotifyAddWatch(watch, path, unix.IN_ALL_EVENTS&^unix.IN_OPEN)
		if err != nil {
			t.Fatal(err)
		}
		what[uint32(wd)] = name
	}
	names := map[uint32]string{unix.IN_ACCESS: "access", unix.IN_MODIFY: "modify", unix.IN_CLOSE_WRITE: "close", unix.IN_CLOSE_NOWRITE: "close"}
	events := func() (seen string) {
		t.Helper()
		buf := make([]byte, 64<<10)
		n, err := unix.Read(watch, buf)
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		var all []string
		for b := buf[:max(n, 0)]; len(b) > 0; b = b[16+word(b[12:]):] {
			event := names[word(b[4:])]
			if event == "" {
				event = fmt.Sprintf("%#x", word(b[4:]))
			}
			if e := what[word(b)] + " " + event; !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	cat(c, s.attr("foo", "cpu_partial"))
	if got, want := events(), "file access, file close, foo access, foo close"; got != want {
		t.Errorf("of a read: %s; want %s", got, want)
	}
	echo(c, s.attr("foo", "cpu_partial"), "3")
	if got, want := events(), "file close, file modify, foo close, foo modify"; got != want {
		t.Errorf("of a write: %s; want %s", got, want)
	}
	echo(c, s.module("new_cache"), "bar 100 flags=no_merge")
	echo(c, s.module("delete_cache"), "bar")
	echo(c, s.module("delete_cache"), "foo")
	c.Want(unix.ENOENT, Op{Do: "stat", Path: s.attr("foo", "cpu_partial")})
	if got := events(); got != "" {
		t.Errorf("of caches that come and go: %s; want nothing", got)
	}
}

// word reads a number of an event.
func word(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
