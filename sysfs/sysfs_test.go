package sysfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"slabfs/internal/lockdep"
)

func TestMain(m *testing.M) {
	lockdep.UseCond() // so that synctest sees who waits
	os.Exit(lockdep.Status(m.Run()))
}

// text returns an attribute that shows s and accepts anything.
func text(name, s string) *Attribute {
	return &Attribute{
		Name:  name,
		Mode:  0o600,
		Show:  func(_ context.Context, _ any, w *bytes.Buffer) error { w.WriteString(s); return nil },
		Store: func(context.Context, any, []byte) error { return nil },
	}
}

func add(tb testing.TB, k *Kobject, name string, obj any, attrs ...*Attribute) *Kobject {
	tb.Helper()
	dir, err := k.Add(name, obj, attrs...)
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

func file(tb testing.TB, k *Kobject, name string) *File {
	tb.Helper()
	f, ok := k.Child(name).(*File)
	if !ok {
		tb.Fatalf("%s has no file %q", k.Path(), name)
	}
	return f
}

func show(f *File) (string, error) {
	var w bytes.Buffer
	err := f.Show(context.Background(), &w)
	return w.String(), err
}

func TestAddRefuses(t *testing.T) {
	root := NewTree().Root()
	a := text("a", "1")
	taken := add(t, root, "taken", nil)
	gone := add(t, root, "gone", nil)
	gone.Remove()
	for _, tc := range []struct {
		what string
		add  func() error
		want error
	}{
		{"no name", func() error { _, err := root.Add("", nil); return err }, ErrInvalid},
		{"dot", func() error { _, err := root.Add(".", nil); return err }, ErrInvalid},
		{"dot dot", func() error { _, err := root.Link("..", taken); return err }, ErrInvalid},
		{"slash", func() error { _, err := root.Add("a/b", nil); return err }, ErrInvalid},
		{"NUL", func() error { _, err := root.Add("a\x00", nil); return err }, ErrInvalid},
		{"256 bytes", func() error { _, err := root.Add(strings.Repeat("x", 256), nil); return err }, ErrInvalid},
		{"bad attribute name", func() error { return root.AddFile(nil, text("/", "")) }, ErrInvalid},
		{"readable without Show", func() error { return root.AddFile(nil, &Attribute{Name: "f", Mode: 0o400}) }, ErrInvalid},
		{"writable without Store", func() error { return root.AddFile(nil, &Attribute{Name: "f", Mode: 0o600, Show: a.Show}) }, ErrInvalid},
		{"mode beyond permissions", func() error { return root.AddFile(nil, &Attribute{Name: "f", Mode: 0o4000}) }, ErrInvalid},
		{"name taken", func() error { _, err := root.Add("taken", nil); return err }, ErrExist},
		{"link name taken", func() error { _, err := root.Link("taken", taken); return err }, ErrExist},
		{"attribute twice", func() error { _, err := root.Add("x", nil, a, a); return err }, ErrExist},
		{"directory removed", func() error { _, err := gone.Add("x", nil); return err }, ErrGone},
		{"directory of file removed", func() error { return gone.AddFile(nil, a) }, ErrGone},
		{"target removed", func() error { _, err := root.Link("x", gone); return err }, ErrGone},
		{"target of another tree", func() error { _, err := root.Link("x", NewTree().Root()); return err }, ErrInvalid},
	} {
		if err := tc.add(); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v; want %v", tc.what, err, tc.want)
		}
	}
	if got := len(root.Children()); got != 1 {
		t.Errorf("after refusals the root has %d children; want 1", got)
	}
}

func TestLookup(t *testing.T) {
	tr := NewTree()
	sys := add(t, tr.Root(), "sys", nil)
	dir := add(t, sys, "cache", "obj", text("b", "2\n"), text("a", "1\n"))
	if got := dir.Path(); got != "/sys/cache" {
		t.Errorf("path = %q; want %q", got, "/sys/cache")
	}
	if got := tr.Root().Path(); got != "/" {
		t.Errorf("path of the root = %q; want %q", got, "/")
	}
	var names []string
	for _, n := range dir.Children() {
		names = append(names, n.Name())
	}
	if want := []string{"b", "a"}; !slices.Equal(names, want) {
		t.Errorf("children = %q; want the order of definition %q", names, want)
	}
	if got, err := show(file(t, dir, "b")); got != "2\n" || err != nil {
		t.Errorf("show b = %q, %v; want %q, nil", got, err, "2\n")
	}
	if got := sys.Links(); got != 3 {
		t.Errorf("links of /sys = %d; want 3", got)
	}
	if dir.Object() != "obj" {
		t.Errorf("object = %v; want obj", dir.Object())
	}
}

// A listing's order and offsets depend on names alone.
func TestPositions(t *testing.T) {
	one, other := NewTree().Root(), NewTree().Root()
	var kobjects []*Kobject
	for i := range 300 {
		kobjects = append(kobjects, add(t, one, fmt.Sprint("n", i), nil))
		add(t, other, fmt.Sprint("n", 299-i), nil)
	}
	all := one.from(0)
	names := func(nodes []Node) (names []string) {
		for _, n := range nodes {
			names = append(names, n.Name())
		}
		return names
	}
	if !slices.Equal(names(all), names(other.from(0))) || len(all) != 300 {
		t.Errorf("%d children, in an order that depends on how they came", len(all))
	}
	for i, n := range all {
		at, behind := one.from(n.Position()), one.from(n.Position()+1)
		if n.Position() < 2 || n.Position() > 1<<31-1-twins || !slices.Equal(at, all[i:]) || !slices.Equal(behind, all[i+1:]) {
			t.Fatalf("position %d of %s: %d children from there, %d behind; want an offset of 2 or more, %d, %d",
				n.Position(), n.Name(), len(at), len(behind), len(all)-i, len(all)-i-1)
		}
	}
	for _, k := range kobjects[:299] {
		k.Remove()
	}
	if got := names(one.from(0)); !slices.Equal(got, []string{"n299"}) {
		t.Errorf("children after removals: %q; want n299", got)
	}
	back := add(t, one, "n0", nil)
	if back.Position() != kobjects[0].Position() || len(one.from(back.Position())) == 0 {
		t.Errorf("a name that came back stands at %d; want %d as before", back.Position(), kobjects[0].Position())
	}
}

// Names of one position follow each other, at offsets of their own.
func TestPositionsCollide(t *testing.T) {
	seen := make(map[uint64]string)
	var names []string
	for i := 0; len(names) == 0; i++ {
		b := fmt.Sprint(i)
		if a, ok := seen[position(b)]; ok {
			names = []string{a, b}
			slices.Sort(names)
		}
		seen[position(b)] = b
	}
	root, p := NewTree().Root(), position(names[0])
	second := add(t, root, names[1], nil)
	list := func(from uint64) (entries []string) {
		for at, n := range root.List(from) {
			entries = append(entries, fmt.Sprint(n.Name(), "+", at-p))
		}
		return entries
	}
	check := func(from uint64, want ...string) {
		t.Helper()
		if got := list(from); !slices.Equal(got, want) {
			t.Errorf("from %d on: %q; want %q", from, got, want)
		}
	}
	check(p, names[1]+"+0")
	first := add(t, root, names[0], nil)
	for _, from := range []uint64{0, 2, p - 1, p} {
		check(from, names[0]+"+0", names[1]+"+1")
	}
	check(p+1, names[1]+"+1")
	check(p + 2)
	second.Remove()
	check(p, names[0]+"+0")
	check(p + 1)
	first.Remove()
	check(0)
}

func TestLinkTarget(t *testing.T) {
	root := NewTree().Root()
	a := add(t, root, "a", nil)
	b := add(t, a, "b", nil)
	c := add(t, root, "c", nil)
	for _, tc := range []struct {
		in, target *Kobject
		want       string
	}{
		{root, a, "a"}, {a, b, "b"}, {b, c, "../../c"}, {c, b, "../a/b"}, {b, a, ".."},
	} {
		l, err := tc.in.Link("l", tc.target)
		if err != nil {
			t.Fatal(err)
		}
		if l.Target() != tc.want {
			t.Errorf("link in %s to %s = %q; want %q", tc.in.Path(), tc.target.Path(), l.Target(), tc.want)
		}
		l.Remove()
		l.Remove()
		if !l.Removed() || tc.in.Child("l") != nil {
			t.Errorf("link in %s is still there after Remove", tc.in.Path())
		}
	}
}

func TestMeta(t *testing.T) {
	dir := add(t, NewTree().Root(), "d", nil, text("f", ""))
	f := file(t, dir, "f")
	if m := f.Meta(); m.Mode != 0o600 || m.UID != uint32(os.Geteuid()) || m.GID != uint32(os.Getegid()) || m.Mtime.IsZero() {
		t.Errorf("new file: %+v; want mode 0600, this process's owner, a time", m)
	}
	f.SetMeta(func(m *Meta) { m.Mode = 0o4644; m.UID = 7 })
	if m := f.Meta(); m.Mode != 0o4644 || m.UID != 7 {
		t.Errorf("after SetMeta: %+v; want mode 04644, uid 7", m)
	}
	if m := dir.Meta(); m.Mode != 0o755 {
		t.Errorf("directory mode = %#o; want 0755", m.Mode)
	}
}

// Files that nobody has changed take no memory: a directory with many costs as
// much as one without.
func TestFilesCostNothing(t *testing.T) {
	const dirs, most = 1000, 400 // bytes for a directory, its place in the parent included
	attrs := make([]*Attribute, 72)
	for i := range attrs {
		attrs[i] = text(fmt.Sprint("attribute", i), "")
	}
	names := make([]string, dirs)
	for i := range names {
		names[i] = fmt.Sprint("dir", i)
	}
	root := NewTree().Root()
	add(t, root, "first", nil, attrs...)
	before := heap()
	for _, name := range names {
		add(t, root, name, nil, attrs...)
	}
	if got := (heap() - before) / dirs; got > most {
		t.Errorf("a directory of %d files takes %d bytes; want %d at most", len(attrs), got, most)
	}
	before = heap()
	for _, k := range root.Children() {
		for _, f := range k.(*Kobject).Children() {
			if f.Meta().Mode != 0o600 || f.Ino() == 0 || k.(*Kobject).Child(f.Name()) == nil {
				t.Fatalf("%s: mode %#o, number %d", f.Path(), f.Meta().Mode, f.Ino())
			}
		}
	}
	if got := (heap() - before) / dirs; got > most/10 {
		t.Errorf("to have looked at all files takes %d bytes for each directory; want none", got)
	}
}

// heap returns the bytes of live Go memory.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one has swept
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Numbers of files are their own, and a file is the same however it is found.
func TestFileNumbers(t *testing.T) {
	root := NewTree().Root()
	dir := add(t, root, "dir", nil, text("a", ""), text("b", ""))
	add(t, root, "next", nil, text("a", ""))
	if err := dir.AddFile("late", text("c", "")); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]string{root.Ino(): "/"}
	for _, k := range root.Children() {
		for _, n := range append(k.(*Kobject).Children(), k) {
			if other := seen[n.Ino()]; other != "" {
				t.Errorf("%s and %s have the number %d", other, n.Path(), n.Ino())
			}
			seen[n.Ino()] = n.Path()
		}
	}
	for i, name := range []string{"a", "b", "c"} {
		f := file(t, dir, name)
		if g := dir.File(i); f.Index() != i || *g != *f || g.Ino() != f.Ino() {
			t.Errorf("%s is file %d of %d, number %d; want %d, number %d", name, f.Index(), dir.Files(), f.Ino(), i, g.Ino())
		}
	}
	f := file(t, dir, "c")
	f.SetMeta(func(m *Meta) { m.UID = 7 })
	if got := file(t, dir, "c").Meta().UID; got != 7 || f.object() != "late" {
		t.Errorf("uid %d, object %v; want 7, late", got, f.object())
	}
	if dir.File(-1) != nil || dir.File(3) != nil {
		t.Error("a directory of three files has a fourth")
	}
}

// Who shows a directory's attributes elsewhere hears of what changes them.
func TestOnChange(t *testing.T) {
	tr := NewTree()
	dir := add(t, tr.Root(), "dir", nil, text("f", ""))
	var told []string
	cancel := tr.OnChange(func(n Node) { told = append(told, fmt.Sprint(n.Path(), " ", n.Meta().Mode)) })
	want := func(what, paths string) {
		t.Helper()
		if got := strings.Join(told, ", "); got != paths {
			t.Errorf("%s: told of %q; want %q", what, got, paths)
		}
		told = nil
	}
	inner := add(t, dir, "inner", nil)
	want("a new directory", "/dir -rwxr-xr-x")
	l, err := dir.Link("link", inner)
	if err != nil {
		t.Fatal(err)
	}
	want("a new link", "/dir -rwxr-xr-x")
	l.Remove()
	l.Remove()
	want("a link that leaves", "/dir -rwxr-xr-x")
	inner.Remove()
	inner.Remove()
	want("a directory that leaves", "/dir -rwxr-xr-x")
	if err := dir.AddFile(nil, text("late", "")); err != nil {
		t.Fatal(err)
	}
	want("a new file", "/dir -rwxr-xr-x")
	file(t, dir, "f").SetMeta(func(m *Meta) { m.Mode = 0o444 })
	dir.SetMeta(func(m *Meta) { m.Mode = 0o700 })
	want("what chmod does", "/dir/f -r--r--r--, /dir -rwx------")
	if _, err := dir.Add("f", nil); !errors.Is(err, ErrExist) {
		t.Error(err)
	}
	want("a name that is taken", "")
	cancel()
	dir.Remove()
	want("after cancel", "")
}

func TestContentIsCut(t *testing.T) {
	long := strings.Repeat("x", 3*PageSize)
	seq := text("seq", long)
	seq.Seq = true
	var stored int
	one := text("one", long)
	one.Store = func(_ context.Context, _ any, data []byte) error { stored = len(data); return nil }
	dir := add(t, NewTree().Root(), "d", nil, one, seq)
	if got, err := show(file(t, dir, "one")); len(got) != PageSize-1 || err != nil {
		t.Errorf("show gave %d bytes, %v; want %d", len(got), err, PageSize-1)
	}
	if got, err := show(file(t, dir, "seq")); len(got) != len(long) || err != nil {
		t.Errorf("show of a Seq file gave %d bytes, %v; want %d", len(got), err, len(long))
	}
	if n, err := file(t, dir, "one").Store(context.Background(), []byte(long)); n != PageSize || stored != PageSize || err != nil {
		t.Errorf("store = %d, %v, and the function got %d bytes; want %d, nil, %[4]d", n, err, stored, PageSize)
	}
	if a, b := file(t, dir, "one").Size(), file(t, dir, "seq").Size(); a != PageSize || b != 0 {
		t.Errorf("sizes = %d, %d; want %d, 0", a, b, PageSize)
	}
}

func TestMissingMethod(t *testing.T) {
	dir := add(t, NewTree().Root(), "d", nil, &Attribute{Name: "none"})
	f := file(t, dir, "none")
	if _, err := show(f); !errors.Is(err, ErrNoMethod) {
		t.Errorf("show: %v; want %v", err, ErrNoMethod)
	}
	if _, err := f.Store(context.Background(), nil); !errors.Is(err, ErrNoMethod) {
		t.Errorf("store: %v; want %v", err, ErrNoMethod)
	}
}

func TestRemoveHides(t *testing.T) {
	tr := NewTree()
	top := add(t, tr.Root(), "top", nil)
	mid := add(t, top, "mid", "object", text("f", "x"))
	f := file(t, mid, "f")
	var told []string
	cancel := tr.OnRemove(func(r Removal) {
		if !r.Node.Removed() || r.Parent.Child(r.Node.Name()) != nil {
			t.Errorf("observer of %s: it is still there", r.Node.Path())
		}
		told = append(told, r.Node.Path())
	})
	top.Remove()
	top.Remove()
	mid.Remove()
	if want := []string{"/top"}; !slices.Equal(told, want) {
		t.Errorf("observed %q; want %q", told, want)
	}
	for _, n := range []Node{top, mid, f} {
		if !n.Removed() {
			t.Errorf("%s is not removed", n.Path())
		}
	}
	if _, err := show(f); !errors.Is(err, ErrGone) {
		t.Errorf("show of a removed file: %v; want %v", err, ErrGone)
	}
	if _, err := f.Store(context.Background(), nil); !errors.Is(err, ErrGone) {
		t.Errorf("store of a removed file: %v; want %v", err, ErrGone)
	}
	if mid.Object() != nil || f.object() != nil {
		t.Error("a removed node keeps the program's object alive")
	}
	if n := len(top.Children()); n != 0 {
		t.Errorf("a removed directory has %d children; want 0", n)
	}
	again := add(t, tr.Root(), "top", nil)
	if again.Ino() == top.Ino() {
		t.Errorf("inode number %d was used again", top.Ino())
	}
	cancel()
	again.Remove()
	if len(told) != 1 {
		t.Errorf("observed %q after cancel", told)
	}
}

// blocking returns an attribute whose Store waits until release is closed.
func blocking(name string, release <-chan struct{}) *Attribute {
	a := text(name, "")
	a.Store = func(context.Context, any, []byte) error { <-release; return nil }
	return a
}

func TestDrainWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := NewTree()
		release := make(chan struct{})
		top := add(t, tr.Root(), "top", nil)
		dir := add(t, top, "dir", nil, blocking("f", release), text("g", ""))
		f, g := file(t, dir, "f"), file(t, dir, "g")
		var stored, over atomic.Bool
		go func() {
			if _, err := f.Store(context.Background(), nil); err != nil {
				t.Errorf("the store under way: %v; want success", err)
			}
			stored.Store(true)
		}()
		synctest.Wait()
		var told atomic.Int64
		tr.OnRemove(func(Removal) { told.Add(1) })
		removals := []*Kobject{top, top, dir}
		var removers sync.WaitGroup
		for _, k := range removals {
			removers.Go(func() {
				k.Remove()
				if !over.Load() {
					t.Errorf("Remove of %s returned while a store ran", k.Path())
				}
			})
		}
		synctest.Wait()
		// Lookups and new calls fail already, of every file, and the name is free.
		if tr.Root().Child("top") != nil {
			t.Error("lookup finds a directory that is being removed")
		}
		if _, err := show(g); !errors.Is(err, ErrGone) {
			t.Errorf("show during the drain: %v; want %v", err, ErrGone)
		}
		add(t, tr.Root(), "top", nil)
		if n := told.Load(); n != 0 {
			t.Errorf("observer heard %d times before the drain", n)
		}
		over.Store(true)
		close(release)
		removers.Wait()
		synctest.Wait()
		if !stored.Load() {
			t.Error("the store did not end")
		}
		if n := told.Load(); n == 0 {
			t.Error("observer heard nothing after the drain")
		}
		if got := tr.Stats(); got.Waited == 0 || got.StoresAtDrain != 1 {
			t.Errorf("stats = %+v; want drains that waited, and one store at a drain", got)
		}
	})
}

// Removing a directory waits for the drain of one that left it a moment ago.
func TestDrainOfParentWaitsForChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		top := add(t, NewTree().Root(), "top", nil)
		dir := add(t, top, "dir", nil, blocking("f", release))
		f := file(t, dir, "f")
		go func() { _, _ = f.Store(context.Background(), nil) }()
		synctest.Wait()
		go dir.Remove()
		synctest.Wait()
		var over atomic.Bool
		done := make(chan struct{})
		go func() {
			top.Remove()
			if !over.Load() {
				t.Error("Remove of the parent returned while a store of a former child ran")
			}
			close(done)
		}()
		synctest.Wait()
		over.Store(true)
		close(release)
		<-done
	})
}

func mustPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if p := fmt.Sprint(recover()); !strings.Contains(p, want) {
			t.Errorf("panic = %s; want one with %q", p, want)
		}
	}()
	f()
}

func TestRemoveInsideHandler(t *testing.T) {
	root := NewTree().Root()
	var victim *Kobject
	remover := text("rm", "")
	remover.Store = func(context.Context, any, []byte) error { victim.Remove(); return nil }
	remover.Show = func(context.Context, any, *bytes.Buffer) error { victim.Remove(); return nil }
	top := add(t, root, "top", nil)
	control := add(t, top, "control", nil, remover)
	rm := file(t, control, "rm")

	victim = add(t, root, "other", nil, text("f", ""))
	if _, err := rm.Store(context.Background(), nil); err != nil || !victim.Removed() {
		t.Errorf("a store that removes another kobject: %v, removed: %v; want success", err, victim.Removed())
	}
	for _, victim = range []*Kobject{control, top} {
		mustPanic(t, "would wait for itself", func() { _, _ = rm.Store(context.Background(), nil) })
		mustPanic(t, "would wait for itself", func() { _, _ = show(rm) })
		if victim.Removed() {
			t.Errorf("%s is removed although Remove panicked", victim.Path())
		}
	}
	// A panic must not leave a reference behind: this would wait for it.
	top.Remove()
	mustPanic(t, "root", root.Remove)
}

func TestHandlersAreCallbacks(t *testing.T) {
	a := text("a", "")
	in := 0
	a.Show = func(context.Context, any, *bytes.Buffer) error {
		if lockdep.InCallback() {
			in++
		}
		return nil
	}
	a.Store = func(ctx context.Context, _ any, _ []byte) error { return a.Show(ctx, nil, nil) }
	f := file(t, add(t, NewTree().Root(), "d", nil, a), "a")
	if _, err := show(f); err != nil {
		t.Error(err)
	}
	if _, err := f.Store(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if in != 2 || lockdep.InCallback() {
		t.Errorf("%d of 2 handlers were callbacks, and afterwards %v; want 2, false", in, lockdep.InCallback())
	}
}

// object stands for what a program publishes; it is freed once its kobject is removed.
type object struct {
	freed atomic.Bool
	calls atomic.Int64
}

// TestStress adds, removes, shows and stores at once. No call may see a freed
// object, and at the end every file must be drained.
func TestStress(t *testing.T) {
	const names, rounds = 4, 300
	tr := NewTree()
	use := func(_ context.Context, obj any) error {
		o := obj.(*object)
		o.calls.Add(1)
		runtime.Gosched()
		if o.freed.Load() {
			t.Error("a show or store ran on a freed object")
		}
		o.calls.Add(-1)
		return nil
	}
	attrs := make([]*Attribute, 3)
	for i := range attrs {
		attrs[i] = &Attribute{
			Name: fmt.Sprint("f", i), Mode: 0o600,
			Show:  func(ctx context.Context, obj any, _ *bytes.Buffer) error { return use(ctx, obj) },
			Store: func(ctx context.Context, obj any, _ []byte) error { return use(ctx, obj) },
		}
	}
	var dirs sync.Map
	var published, called atomic.Int64
	var done atomic.Bool
	var owners, users sync.WaitGroup
	for i := range names {
		name := fmt.Sprint("n", i)
		owners.Go(func() {
			for range rounds {
				o := &object{}
				k, err := tr.Root().Add(name, o, attrs...)
				if err != nil {
					t.Errorf("add %s: %v", name, err)
					return
				}
				l, err := tr.Root().Link("l"+name, k)
				if err != nil {
					t.Errorf("link %s: %v", name, err)
					return
				}
				dirs.Store(k, nil)
				published.Add(1)
				runtime.Gosched()
				l.Remove()
				var second sync.WaitGroup
				second.Go(func() {
					k.Remove()
					if n := o.calls.Load(); n != 0 {
						t.Errorf("%d calls after the second Remove", n)
					}
				})
				k.Remove()
				o.freed.Store(true)
				if n := o.calls.Load(); n != 0 {
					t.Errorf("%d calls after Remove", n)
				}
				second.Wait()
			}
		})
	}
	for u := range 4 {
		users.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(u), 1))
			for !done.Load() {
				k, ok := tr.Root().Child(fmt.Sprint("n", rng.IntN(names))).(*Kobject)
				if !ok {
					runtime.Gosched()
					continue
				}
				f, ok := k.Child(fmt.Sprint("f", rng.IntN(len(attrs)))).(*File)
				if !ok {
					continue
				}
				var err error
				if rng.IntN(2) == 0 {
					_, err = show(f)
				} else {
					_, err = f.Store(context.Background(), nil)
				}
				switch {
				case err == nil:
					called.Add(1)
				case !errors.Is(err, ErrGone):
					t.Errorf("call: %v", err)
				}
			}
		})
	}
	owners.Wait()
	done.Store(true)
	users.Wait()
	dirs.Range(func(n, _ any) bool {
		if k := n.(*Kobject); k.active.Load() != deactivated || k.stores.Load() != 0 {
			t.Errorf("%s: active = %d, stores = %d; want %d, 0", k.Path(), k.active.Load(), k.stores.Load(), int64(deactivated))
		}
		return true
	})
	if got := tr.Stats().Drains; got != names*rounds || published.Load() != names*rounds {
		t.Errorf("%d published, %d drains; want %d", published.Load(), got, names*rounds)
	}
	if len(tr.calls) != 0 || called.Load() == 0 {
		t.Errorf("%d calls noted as under way, %d made; want 0, some", len(tr.calls), called.Load())
	}
}

// FuzzTree runs its input as a program on a tree and on a set of paths: each
// byte adds, links or removes at one of a few places.
func FuzzTree(f *testing.F) {
	f.Add([]byte{0, 1, 2, 16, 17, 33, 34, 8, 0})
	f.Fuzz(func(t *testing.T, prog []byte) {
		tr := NewTree()
		model := map[string]bool{}
		inodes := map[uint64]bool{1: true}
		dirs := []string{"/", "/a", "/b", "/a/c"}
		find := func(path string) *Kobject {
			k := tr.Root()
			for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
				next, ok := k.Child(name).(*Kobject)
				if !ok {
					return nil
				}
				k = next
			}
			return k
		}
		for pc, op := range prog {
			path := dirs[1+int(op)%3]
			up := path[:strings.LastIndexByte(path, '/')]
			switch k, parent := find(path), find(up); {
			case op&8 == 0 && parent != nil:
				k, err := parent.Add(path[len(up)+1:], nil, text("f", path))
				if model[path] != errors.Is(err, ErrExist) {
					t.Fatalf("op %d: add %s: %v; taken: %v", pc, path, err, model[path])
				}
				model[path] = true
				if err == nil && inodes[k.Ino()] {
					t.Fatalf("op %d: inode number %d used twice", pc, k.Ino())
				} else if err == nil {
					inodes[k.Ino()] = true
				}
			case op&8 != 0 && k != nil:
				k.Remove()
				for p := range model {
					if p == path || strings.HasPrefix(p, path+"/") {
						delete(model, p)
					}
				}
			}
			for _, p := range dirs[1:] {
				if got := find(p) != nil; got != model[p] {
					t.Fatalf("op %d: %s exists: %v; want %v", pc, p, got, model[p])
				}
			}
		}
	})
}

func BenchmarkShow(b *testing.B) {
	f := file(b, add(b, NewTree().Root(), "d", nil, text("f", "120\n")), "f")
	var w bytes.Buffer
	for b.Loop() {
		w.Reset()
		_ = f.Show(context.Background(), &w)
	}
}
