package slabattr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"slabfs/alloc"
	"slabfs/sysfs"
)

// entries returns what is in sys/kernel/slab besides kmalloc-*: directories as
// "", links as their targets.
func (t *Tree) entries() map[string]string {
	m := make(map[string]string)
	for _, n := range t.slab.Children() {
		if l, ok := n.(*sysfs.Link); ok {
			m[n.Name()] = l.Target()
		} else if !strings.HasPrefix(n.Name(), "kmalloc-") {
			m[n.Name()] = ""
		}
	}
	return m
}

func (t *Tree) wantEntries(tb testing.TB, want map[string]string) {
	tb.Helper()
	if got := t.entries(); !maps.Equal(got, want) {
		tb.Errorf("sys/kernel/slab has %q; want %q", got, want)
	}
}

// The names of one size share a directory, which works as long as one is left.
func TestMerged(t *testing.T) {
	a, tree := newTreeOf(t, alloc.Options{Merge: true})
	const create, destroy = "sys/module/slabfs/new_cache", "sys/module/slabfs/delete_cache"
	echo := func(text, file string, want syscall.Errno) {
		t.Helper()
		if err := tree.echo(t, text, file); !hasErrno(err, want) {
			t.Errorf("echo %q > %s: %v; want %v", text, path.Base(file), err, want)
		}
	}
	reads := func(file, want string) {
		t.Helper()
		if got := tree.cat(t, slabDir+file); got != want {
			t.Errorf("cat %s = %q; want %q", file, got, want)
		}
	}
	own, err := a.NewCache("own", 190, alloc.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree.wantEntries(t, map[string]string{":0000192": "", "own": ":0000192"})
	reads(":0000192/aliases", "0\n")
	echo("foo 185", create, 0)
	echo("bar 192 flags=hwcache_align", create, 0)
	echo("apart 192 flags=no_merge", create, 0)
	echo("reclaimed 192 flags=reclaim_account", create, 0)
	tree.wantEntries(t, map[string]string{":0000192": "", "own": ":0000192", "foo": ":0000192", "bar": ":0000192",
		"apart": "", ":a-0000192": "", "reclaimed": ":a-0000192"})
	obj := own.Alloc()
	for file, want := range map[string]string{
		":0000192/aliases": "2\n", ":0000192/object_size": "192\n", ":0000192/slab_size": "192\n", ":0000192/objects": "1 N0=1\n",
		":0000192/hwcache_align": "0\n", ":0000192/reclaim_account": "0\n", "apart/aliases": "0\n", "apart/objects": "0\n",
		":a-0000192/reclaim_account": "1\n",
	} {
		reads(file, want)
	}
	if names := checkSlabinfo(t, tree.cat(t, "proc/slabinfo")); !slices.Equal(names[:3], []string{"reclaimed", "apart", "own"}) || len(names) != 16 {
		t.Errorf("slabinfo lists %q; want the oldest names of 3 and 13 caches, newest first", names)
	}
	file := tree.file(t, slabDir+":0000192/cpu_partial")
	echo("30", slabDir+":0000192/cpu_partial", 0)

	echo(":0000192", destroy, syscall.ENOENT)
	echo("own", destroy, syscall.EPERM)
	echo("bar", destroy, 0) // with a live object
	echo("bar", destroy, syscall.ENOENT)
	reads(":0000192/object_size", "190\n")
	if err := own.Destroy(); err != nil { // the first
		t.Error(err)
	}
	tree.wantEntries(t, map[string]string{":0000192": "", "foo": ":0000192", "apart": "", ":a-0000192": "", "reclaimed": ":a-0000192"})
	if names := checkSlabinfo(t, tree.cat(t, "proc/slabinfo")); names[2] != "foo" {
		t.Errorf("slabinfo lists %q; want the name that is left", names)
	}
	reads(":0000192/aliases", "0\n")
	if _, err := file.Store(context.Background(), []byte("31")); err != nil {
		t.Errorf("a store after the first name's end: %v", err)
	}
	reads(":0000192/cpu_partial", "31\n")
	echo("foo", destroy, syscall.EBUSY)
	for _, c := range a.Caches() {
		if c.Name() == "foo" {
			c.Free(obj)
		}
	}
	echo("foo", destroy, 0)
	tree.wantEntries(t, map[string]string{"apart": "", ":a-0000192": "", "reclaimed": ":a-0000192"})
	var w bytes.Buffer
	if err := file.Show(context.Background(), &w); !errors.Is(err, sysfs.ErrGone) {
		t.Errorf("a file after the last name's end reads %q, %v; want ErrGone", w.String(), err)
	}
	echo("own 192 flags=no_merge", create, 0) // a directory where a link was
	echo("apart", destroy, 0)
	echo("apart 192", create, 0) // and the other way round
	tree.wantEntries(t, map[string]string{"own": "", ":0000192": "", "apart": ":0000192", ":a-0000192": "", "reclaimed": ":a-0000192"})
}

// The tree shows what a simple model says, and so does one that attaches later.
func TestMergeModel(t *testing.T) {
	a, tree := newTreeOf(t, alloc.Options{Merge: true})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	caches, ids := make(map[string]*alloc.Cache), make(map[string]string)
	for i := range 2000 {
		name := fmt.Sprint("n", r.IntN(10))
		if c := caches[name]; c != nil {
			if err := c.Destroy(); err != nil {
				t.Fatal(err)
			}
			delete(caches, name)
		} else {
			size, o := 1+r.IntN(32), alloc.CacheOptions{}
			ids[name] = fmt.Sprintf(":%07d", (size+7)&^7)
			switch r.IntN(4) {
			case 0:
				o.Flags, ids[name] = alloc.NoMerge, name
			case 1:
				o.Flags, ids[name] = alloc.ReclaimAccount, ":a-"+ids[name][1:]
			}
			c, err := a.NewCache(name, size, o)
			if err != nil {
				t.Fatal(err)
			}
			caches[name] = c
		}
		want := make(map[string]string)
		for name := range caches {
			want[ids[name]] = ""
			if name != ids[name] {
				want[name] = ids[name]
			}
		}
		tree.wantEntries(t, want)
		if i%100 == 0 {
			late := New(a)
			late.wantEntries(t, want)
			late.Detach()
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// No link is ever seen without its directory, nor slabinfo with a name twice,
// while names that share directories come and go, and one CPU file is in the way.
func TestMergeChurn(t *testing.T) {
	a, tree := newTreeOf(t, alloc.Options{Merge: true})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	until := func(f func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	for g := range 3 {
		n := 0
		until(func() { // names are not used twice: a link that is seen was not made again meanwhile
			n++
			name := fmt.Sprintf("g%d.%d", g, n)
			if err := tree.echo(t, fmt.Sprint(name, " ", 60+4*(n%2)), "sys/module/slabfs/new_cache"); err != nil {
				t.Errorf("create: %v", err)
			}
			if err := tree.echo(t, name, "sys/module/slabfs/delete_cache"); err != nil {
				t.Errorf("destroy: %v", err)
			}
		})
	}
	until(func() { // keeps drains waiting
		if dir, ok := tree.slab.Child(":0000064").(*sysfs.Kobject); ok {
			if f, ok := dir.Child("shrink").(*sysfs.File); ok {
				_, _ = f.Store(context.Background(), []byte("1"))
			}
		}
	})
	until(func() { a.Hotplug().Lock(); a.Hotplug().Unlock() })
	seen := 0
	for range 2000 {
		checkSlabinfo(t, tree.cat(t, "proc/slabinfo"))
		for _, n := range tree.slab.Children() {
			l, ok := n.(*sysfs.Link)
			if !ok {
				continue
			}
			seen++
			if tree.slab.Child(l.Target()) == nil && !l.Removed() {
				t.Errorf("%q is a link to %q, which is not there", l.Name(), l.Target())
			}
		}
	}
	close(stop)
	wg.Wait()
	if seen == 0 {
		t.Error("no link was seen")
	}
	tree.wantEntries(t, map[string]string{})
}
