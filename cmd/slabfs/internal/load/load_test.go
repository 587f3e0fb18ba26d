package load

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/sysfs"
)

// start puts a new allocator to work until the test ends; then nothing may be
// left of the work.
func start(t *testing.T, o alloc.Options) (*alloc.Allocator, *Load, *sysfs.Kobject) {
	t.Helper()
	a, err := alloc.New(o)
	if err != nil {
		t.Fatal(err)
	}
	root := sysfs.NewTree().Root()
	l, err := Start(a, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Stop()
		if err := a.Close(); err != nil {
			t.Errorf("after the work: %v", err)
		}
		if n := a.Damage(); n != 0 {
			t.Errorf("%d objects were damaged", n)
		}
	})
	return a, l, root.Child("load").(*sysfs.Kobject)
}

func write(dir *sysfs.Kobject, file, text string) error {
	_, err := dir.Child(file).(*sysfs.File).Store(context.Background(), []byte(text))
	return err
}

func read(t *testing.T, dir *sysfs.Kobject, file string) string {
	t.Helper()
	var w bytes.Buffer
	if err := dir.Child(file).(*sysfs.File).Show(context.Background(), &w); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(w.String(), "\n")
}

func cache(t *testing.T, a *alloc.Allocator, name string) *alloc.Cache {
	t.Helper()
	for _, c := range a.Caches() {
		if c.Name() == name {
			return c
		}
	}
	t.Fatalf("no cache %q", name)
	return nil
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func TestFiguresMove(t *testing.T) {
	a, _, dir := start(t, alloc.Options{})
	for _, name := range []string{"load-small", "load-large", "kmalloc-8", "kmalloc-64", "kmalloc-128", "kmalloc-256", "kmalloc-1k"} {
		c := cache(t, a, name)
		before := c.Stats().Objects
		eventually(t, name+": objects change", func() bool { return c.Stats().Objects != before })
		eventually(t, name+": CPUs keep slabs", func() bool { return c.Stats().CPUSlabs > 0 })
	}
	for _, name := range []string{"load-small", "kmalloc-64"} {
		c := cache(t, a, name)
		eventually(t, name+": cpu partial slabs", func() bool { return c.Stats().CPUPartial > 0 })
	}
	if err := write(dir, "running", "0\n"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "running"); got != "0" {
		t.Errorf("running = %q; want 0", got)
	}
	before := figures(a)
	time.Sleep(5 * tick)
	if after := figures(a); after != before {
		t.Errorf("figures at rest went from\n%sto\n%s", before, after)
	}
	if err := write(dir, "running", "1\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() bool { return figures(a) != before })
}

func figures(a *alloc.Allocator) string {
	var b strings.Builder
	for _, c := range a.Caches() {
		s := c.Stats()
		b.WriteString(c.Name())
		for _, n := range []int{s.Slabs, s.Objects, s.Partial, s.ObjectsPartial, s.CPUSlabs, s.Cached} {
			b.WriteString(" " + strconv.Itoa(n))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestHold(t *testing.T) {
	a, _, dir := start(t, alloc.Options{})
	if err := write(dir, "running", "0"); err != nil {
		t.Fatal(err)
	}
	c := cache(t, a, "load-small")
	base := c.Stats().Objects
	for _, tc := range []struct {
		text string
		err  error
		want int
	}{
		{"100\n", nil, 100},
		{"5000", nil, 5000},
		{"7", nil, 7},
		{"abc", sysfs.ErrSyntax, 7},
		{"-1", sysfs.ErrSyntax, 7},
		{"1048577", sysfs.ErrRange, 7},
		{"99999999999", sysfs.ErrRange, 7},
		{"0", nil, 0},
	} {
		err := write(dir, "hold", tc.text)
		if got := c.Stats().Objects - base; !errors.Is(err, tc.err) || got != tc.want || read(t, dir, "hold") != strconv.Itoa(tc.want) {
			t.Errorf("hold %q: %v, %d objects, reads %q; want %v, %d", tc.text, err, got, read(t, dir, "hold"), tc.err, tc.want)
		}
	}
	for _, text := range []string{"2", "x", ""} {
		if err := write(dir, "running", text); err == nil {
			t.Errorf("running %q: no error", text)
		}
	}
}

func TestHoldAtMemoryLimit(t *testing.T) {
	a, _, dir := start(t, alloc.Options{})
	if err := write(dir, "hold", "50"); err != nil {
		t.Fatal(err)
	}
	a.SetMemoryLimit(a.MemoryUsed() + 1<<20)
	if err := write(dir, "hold", "1000000"); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("hold beyond the memory limit: %v; want ENOMEM", err)
	}
	if got := read(t, dir, "hold"); got != "50" {
		t.Errorf("hold = %s after a failure; want 50, as before", got)
	}
}

func TestStartAtMemoryLimit(t *testing.T) {
	a, _, _ := start(t, alloc.Options{MemoryLimit: 64 << 10})
	time.Sleep(5 * tick)
	if used := a.MemoryUsed(); used > 64<<10 {
		t.Errorf("%d bytes are used; the limit is %d", used, 64<<10)
	}
}

func TestCacheDestroyedUnderIt(t *testing.T) {
	a, l, dir := start(t, alloc.Options{})
	if err := write(dir, "hold", "1"); err != nil {
		t.Fatal(err)
	}
	if err := a.DestroyName("load-small"); !errors.Is(err, alloc.ErrBusy) {
		t.Errorf("destroy while objects are live: %v; want ErrBusy", err)
	}
	// Without live objects it can be destroyed, which the limit could bring about.
	if err := errors.Join(write(dir, "running", "0"), write(dir, "hold", "0")); err != nil {
		t.Fatal(err)
	}
	for _, w := range l.workers {
		w.streams[0].resize(0, nil)
	}
	if err := a.DestroyName("load-small"); err != nil {
		t.Fatal(err)
	}
	if err := write(dir, "running", "1"); err != nil {
		t.Fatal(err)
	}
	before := figures(a)
	eventually(t, "the rest goes on", func() bool { return figures(a) != before })
	if err := write(dir, "hold", "1"); !errors.Is(err, sysfs.ErrGone) {
		t.Errorf("hold of a destroyed cache: %v; want ErrGone", err)
	}
	if got := read(t, dir, "hold"); got != "0" {
		t.Errorf("hold = %s; want 0", got)
	}
}

func TestNamesTaken(t *testing.T) {
	for _, name := range []string{"load-small", "load-large"} {
		a, err := alloc.New(alloc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.NewCache(name, 8, alloc.CacheOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(a, sysfs.NewTree().Root()); !errors.Is(err, alloc.ErrExist) {
			t.Errorf("start beside a cache %q: %v; want ErrExist", name, err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("after a start that failed: %v", err)
		}
	}
}
