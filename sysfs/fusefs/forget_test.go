package fusefs

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

func (f *fileSystem) known() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, i := range f.inodes {
		n += len(i.all(nil))
	}
	return n
}

// What clients use when its directory goes stays known until they no longer do, and not
// longer: by itself the kernel keeps it, and so does the server, until memory is short.
func TestRemovedIsForgotten(t *testing.T) {
	const rounds = 20
	x := newFixture()
	s := serve(t, x.tree, Options{})
	s.notifier.wait.Store(int64(time.Minute)) // the machine may be slow
	c := testclient.Start(t, testclient.Options{})
	c.OK(Op{Do: "stat", Path: s.at("cache")})
	before := s.fs.known()
	look := func(k *sysfs.Kobject, files ...string) {
		c.OK(Op{Do: "stat", Path: s.at(k.Path())})
		for _, file := range files {
			c.OK(Op{Do: "stat", Path: s.at(k.Path(), file)})
		}
	}
	open := func(k *sysfs.Kobject, file string) (fd int) {
		return c.OK(Op{Do: "open", Path: s.at(k.Path(), file)}).FD
	}
	var files []int // that stay open
	for i := range rounds {
		name := fmt.Sprint("doomed", i)

		k := x.add(name)
		look(k, "ro", "value")
		soon := open(k, "value")
		k.Remove()
		c.OK(Op{Do: "close", FD: soon}) // while the kernel still believes in the entry

		k = x.add("late-" + name)
		look(k, "ro")
		files = append(files, open(k, "count"), c.OK(Op{Do: "open", Path: s.at(k.Path())}).FD)
		k.Remove()

		k = x.add("deep-" + name)
		inner, err := k.Add("inner", x, x.attr(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		look(inner)
		files = append(files, open(inner, "value"))
		k.Remove()

		k = x.add("again-" + name) // and nobody looks at what has the name then
		look(k, "ro")
		k.Remove()
		if _, err := x.tree.Root().Add("again-"+name, x); err != nil {
			t.Fatal(err)
		}

		k = x.add("untold-" + name)
		look(k, "ro")
		s.notifier.busy.Store(1) // since 1970: the notification is skipped
		k.Remove()
		s.notifier.busy.Store(0)
	}
	held := 2*rounds + 3*rounds // files with their directories
	eventually(t, "the kernel forgot what nobody uses", func() bool { return s.fs.known() == before+held })
	for _, fd := range files {
		c.OK(Op{Do: "close", FD: fd})
	}
	eventually(t, "the kernel forgot everything", func() bool { return s.fs.known() == before })
}

// What stays in use is told once, and then nothing runs any more.
func TestLeftoversAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture()
		f := newFileSystem(x.tree, Options{}, nil)
		var told []string
		looks := 0
		n := newNotifier(func(sysfs.Removal) {},
			func(r sysfs.Removal) { told = append(told, r.Node.Path()) },
			func() ([]sysfs.Node, bool) {
				looks++
				return f.leftovers()
			})
		defer n.stop()
		value := x.cache.Child("value")
		f.remember(x.cache)
		f.remember(value)
		x.cache.Remove()
		if !f.leave(x.cache) {
			t.Error("the kernel does not know what it has looked up")
		}
		n.entry(sysfs.Removal{Parent: x.tree.Root(), Node: x.cache})
		time.Sleep(time.Hour)
		synctest.Wait()
		slices.Sort(told)
		if want := []string{"/cache", "/cache", "/cache/value"}; !slices.Equal(told, want) {
			t.Errorf("told %q; want %q: the directory, and a second later what was left", told, want)
		}
		if looks > 3 {
			t.Errorf("looked %d times for what was left; want at most 3", looks)
		}
	})
}
