package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/internal/leaktest"
	"slabfs/internal/testclient"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
	"slabfs/workqueue"
)

// kept is how many objects the role "struck" holds all the time.
const kept = 1000

// comings are the caches that come and go in the role "struck", by name.
var comings = map[string]alloc.CacheOptions{
	"plain": {Flags: alloc.NoMerge, ShellDelete: true},
	"rcu":   {Flags: alloc.NoMerge | alloc.TypesafeByRCU, ShellDelete: true},
}

// An outcome is what the role "struck" says when its mount has ended.
type outcome struct {
	Lost, Unmounted bool   // why, as far as the server knows
	Wrong           string // what should not be
}

// beStruck serves the files of an allocator at work, whatever becomes of its mount.
// Then it says what became of the rest, and when it is told to, mounts again until
// standard input ends.
func beStruck() error {
	before := leaktest.Take()
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		return err
	}
	c, err := a.NewCache("kept", 64, alloc.CacheOptions{Flags: alloc.NoMerge})
	if err != nil {
		return err
	}
	objs := make([]unsafe.Pointer, kept)
	for i := range objs {
		objs[i] = c.Alloc()
		*(*int)(objs[i]) = i
	}
	srv, err := slabattr.Mount(os.Getenv(programDirEnv), a, fusefs.Options{})
	if err != nil {
		return err
	}
	var wrong report
	stop := work(a, c, &wrong)
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode("ready"); err != nil {
		return err
	}
	<-srv.Done()
	stop()
	for _, c := range a.Caches() {
		if n := c.Stats().Objects; c.Name() != "kept" && n != 0 {
			wrong.add("%d objects of cache %s are live", n, c.Name())
		}
	}
	if n := c.Stats().Objects; n != kept {
		wrong.add("%d objects of cache kept are live; want %d", n, kept)
	}
	for i, obj := range objs {
		if *(*int)(obj) != i {
			wrong.add("object %d has changed", i)
		}
	}
	if err := errors.Join(out.Encode(outcome{errors.Is(srv.Err(), fusefs.ErrConnectionLost), errors.Is(srv.Err(), fusefs.ErrUnmounted), wrong.String()}), srv.Unmount(context.Background())); err != nil {
		return err
	}

	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	if srv, err = slabattr.Mount(os.Getenv(programDirEnv), a, fusefs.Options{}); err != nil {
		return err
	}
	if err := out.Encode("ready"); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in)
	if err := srv.Unmount(context.Background()); err != nil {
		return err
	}
	if err := a.Close(); !errors.Is(err, alloc.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("kept (%d objects)", kept)) {
		return fmt.Errorf("close with live objects: %w", err)
	}
	for _, obj := range objs {
		c.Free(obj)
	}
	if err := a.Close(); err != nil {
		return err
	}
	if a.MemoryUsed() != 0 || a.Misuse() != 0 || a.Damage() != 0 {
		return fmt.Errorf("after close: %d bytes in use, %d uses of released caches, %d objects damaged", a.MemoryUsed(), a.Misuse(), a.Damage())
	}
	return before.Left()
}

// A report collects what goes wrong on several goroutines.
type report struct{ buffer }

func (r *report) add(format string, args ...any) {
	fmt.Fprintf(r, format+"\n", args...)
}

// work makes caches come and go, in each way that there is, and allocates, until the
// function that it returns is called, which waits for the end of that.
func work(a *alloc.Allocator, c *alloc.Cache, wrong *report) (stop func()) {
	var end atomic.Bool
	var wg sync.WaitGroup
	q := workqueue.New("destroys", workqueue.Options{MaxActive: 2})
	loop := func(f func() error) {
		wg.Go(func() {
			for !end.Load() {
				if err := f(); err != nil {
					wrong.add("%v", err)
					return
				}
			}
		})
	}
	for name, o := range comings {
		loop(func() error { // made and destroyed, in a work item too
			c, err := a.NewCache(name, 64, o)
			if errors.Is(err, alloc.ErrClosed) { // for the moment
				return nil
			} else if err != nil {
				return err
			}
			defer func() { _ = recover() }() // Close was faster
			c.Free(c.Alloc())
			w := q.NewWork(func() {
				if err := a.DestroyName(name); err != nil && !errors.Is(err, alloc.ErrNotExist) {
					wrong.add("in a work item: %v", err)
				}
			})
			if _, err := w.Queue(); err != nil {
				return err
			}
			w.Flush()
			return nil
		})
		loop(func() error { // whose constructor panics
			calls := 0
			o := o
			o.Ctor = func(unsafe.Pointer) {
				if calls++; calls == 70 {
					panic("constructor")
				}
			}
			c, err := a.NewCache(name+"-ctor", 64, o)
			if errors.Is(err, alloc.ErrClosed) {
				return nil
			} else if err != nil {
				return err
			}
			defer func() { _ = recover() }()
			var objs []unsafe.Pointer
			func() {
				defer func() { _ = recover() }()
				for range 200 {
					objs = append(objs, c.Alloc())
				}
			}()
			for _, obj := range objs {
				c.Free(obj)
			}
			return c.Destroy()
		})
	}
	loop(func() error { // busy, and closed, all the time
		if err := c.Destroy(); !errors.Is(err, alloc.ErrBusy) {
			return fmt.Errorf("destroy with %d objects: %w", kept, err)
		}
		if err := a.Close(); !errors.Is(err, alloc.ErrBusy) {
			return fmt.Errorf("close with live objects: %w", err)
		}
		return nil
	})
	loop(func() error {
		objs := make([]unsafe.Pointer, 300)
		if !c.AllocBulk(objs) {
			return errors.New("AllocBulk found no memory")
		}
		c.FreeBulk(objs)
		return nil
	})
	return func() {
		end.Store(true)
		wg.Wait()
		q.Destroy()
	}
}

// A crowd is clients that store, read, create and destroy through a mount, on descriptors
// that they have opened before, until that fails or they are stopped.
type crowd struct {
	clients []*testclient.Client
	names   []string
	rounds  []atomic.Int64
	ends    []unix.Errno // what each came to in the end; after done
	stopped atomic.Bool
	done    sync.WaitGroup
}

func newCrowd(t *testing.T, dir string) *crowd {
	t.Helper()
	kept, module := filepath.Join(dir, "sys/kernel/slab/kept"), filepath.Join(dir, "sys/module/slabfs")
	files := []struct {
		path  string
		flags int
		op    Op
	}{
		{kept + "/cpu_partial", unix.O_WRONLY, Op{Do: "pwrite", Data: []byte("30\n")}},
		{kept + "/shrink", unix.O_WRONLY, Op{Do: "pwrite", Data: []byte("1\n")}},
		{kept + "/objects", unix.O_RDONLY, Op{Do: "pread", Size: 100}},
		{module + "/new_cache", unix.O_WRONLY, Op{Do: "pwrite", Data: []byte("shell 64 flags=no_merge\n")}},
		{module + "/delete_cache", unix.O_WRONLY, Op{Do: "pwrite", Data: []byte("shell\n")}},
	}
	w := &crowd{rounds: make([]atomic.Int64, len(files)), ends: make([]unix.Errno, len(files))}
	for i, f := range files {
		c := testclient.Start(t, testclient.Options{})
		f.op.FD = c.OK(Op{Do: "open", Path: f.path, Flags: f.flags}).FD
		w.clients, w.names = append(w.clients, c), append(w.names, filepath.Base(f.path))
		w.done.Go(func() {
			for !w.stopped.Load() {
				r := c.Do(f.op)
				control := i >= 3 && (r.Errno == unix.EEXIST || r.Errno == unix.ENOENT || r.Errno == unix.ENODEV) // the other was faster; a Close is trying
				if r.Errno != 0 && r.Errno != unix.EINTR && !control {
					w.ends[i] = r.Errno
					return
				}
				w.rounds[i].Add(1)
			}
		})
	}
	return w
}

// work waits until each client has done something n times more.
func (w *crowd) work(t *testing.T, n int64) {
	t.Helper()
	for i := range w.rounds {
		want := w.rounds[i].Load() + n
		eventually(t, w.names[i]+" is at work", func() bool { return w.rounds[i].Load() >= want })
	}
}

// end waits until all clients have come to an end with one of these.
func (w *crowd) end(t *testing.T, want ...unix.Errno) {
	t.Helper()
	within(t, "the end of all clients", w.done.Wait)
	for i, errno := range w.ends {
		if !slices.Contains(want, errno) {
			t.Errorf("the client of %s ended with %d (%v); want one of %v", w.names[i], int(errno), errno, want)
		}
	}
	for _, c := range w.clients {
		c.Kill()
	}
}

// A server at work, with clients at work, loses its mount or its life. Nobody hangs, the
// allocator has lost nothing and goes on, the mount is gone or is cleaned by the next
// server, and that serves again.
func TestMountIsLost(t *testing.T) {
	needRoot(t)
	t.Parallel()
	control := t.TempDir()
	if err := unix.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
		t.Fatalf("mount fusectl: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(control, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	detach := func(t *testing.T, dir string) {
		t.Helper()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if mounted(t, dir) {
			t.Error("mounted after umount -l")
		}
	}
	for _, tc := range []struct {
		event  string
		strike func(t *testing.T, p *program, dir string, w *crowd) *program // returns who serves then, or served last
		lost   bool
	}{
		{"umount -l", func(t *testing.T, p *program, dir string, w *crowd) *program {
			detach(t, dir)
			w.work(t, 5) // who has it open goes on
			w.stopped.Store(true)
			w.end(t, 0)
			return p
		}, false},
		{"abort", func(t *testing.T, p *program, dir string, w *crowd) *program {
			var st unix.Stat_t
			if err := unix.Stat(dir, &st); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(control, strconv.Itoa(int(unix.Minor(st.Dev))), "abort"), []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
			w.end(t, unix.ECONNABORTED, unix.ENOTCONN)
			return p
		}, true},
		{"kill -9", func(t *testing.T, p *program, dir string, w *crowd) *program {
			p.kill()
			w.end(t, unix.ECONNABORTED, unix.ENOTCONN)
			p = startRole(t, "struck", dir)
			cat(root.client(t), filepath.Join(dir, "sys/kernel/slab/kept/objects"))
			detach(t, dir)
			return p
		}, false},
	} {
		t.Run(tc.event, func(t *testing.T) {
			t.Parallel()
			dir := root.newDir(t, true)
			p := startRole(t, "struck", dir)
			t.Cleanup(func() {
				if t.Failed() { // or else it waits for the end of its mount
					p.kill()
				}
			})
			w := newCrowd(t, dir)
			w.work(t, 20)
			p = tc.strike(t, p, dir, w)
			var got outcome
			p.receive(&got)
			if want := (outcome{Lost: tc.lost, Unmounted: !tc.lost}); got != want {
				t.Errorf("outcome %+v; want %+v", got, want)
			}
			if mounted(t, dir) {
				t.Error("still mounted")
			}
			if _, err := io.WriteString(p.in, "mount again\n"); err != nil {
				t.Error(err)
			}
			var ready string
			p.receive(&ready)
			if got := cat(root.client(t), filepath.Join(dir, "sys/kernel/slab/kept/objects")); got != fmt.Sprintf("%d N0=%d\n", kept, kept) {
				t.Errorf("objects = %q after it was mounted again; want %d", got, kept)
			}
			if mounts, err := mountsBelow(dir); err != nil || len(mounts) != 1 {
				t.Errorf("mounts: %q, %v; want one", mounts, err)
			}
		})
	}
}
