package stress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "client" {
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of clients: a second for each otherwise
	lockdep.UseCond()                        // for model_test.go
	os.Exit(lockdep.Status(m.Run()))
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
}

// The classes of locks that only tests have.
var (
	bufferClass = lockdep.NewClass("test_buffer")
	inodeClass  = lockdep.NewClass("i_mutex_key")
)

// A buffer collects what several write.
type buffer struct {
	mu lockdep.Mutex
	b  bytes.Buffer // mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// run runs with the given actors and returns what it printed.
func run(t *testing.T, c Config) (out, errs string, err error) {
	t.Helper()
	needRoot(t)
	var o, e buffer
	o.mu.Init(bufferClass)
	e.mu.Init(bufferClass)
	c.Out, c.Err = &o, &e
	c.Client = []string{"client"}
	c.Dir = filepath.Join(t.TempDir(), "mnt")
	if c.Deadline == 0 {
		c.Deadline = time.Minute
	}
	err = Run(context.Background(), c)
	if _, serr := os.Lstat(c.Dir); !errors.Is(serr, os.ErrNotExist) {
		t.Errorf("lstat %q after the run: %v; want that it is not there", c.Dir, serr)
	}
	t.Logf("%s%.2000s%v", o.String(), e.String(), err)
	return o.String(), e.String(), err
}

// TestRun shows a run that proves nothing: there is nobody who meets. (That a full
// run holds is shown with the command, in integration.)
func TestRun(t *testing.T) {
	var progress bytes.Buffer
	out, _, err := run(t, Config{Duration: time.Second, Actors: Actors{"create": 1, "store": 1, "online": 1}, Progress: &progress})
	if !errors.Is(err, ErrInconclusive) {
		t.Fatalf("Run without a destroyer: %v; want %v", err, ErrInconclusive)
	}
	for _, want := range []string{"no drains that waited", "no stores in flight", "no creates refused"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Run without a destroyer: %v; want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "no hotplug") {
		t.Errorf("Run without a hotplug actor: %v; want no word on hotplug", err)
	}
	for _, want := range []string{"create", "open", "store", "end: close, unmount", "seed 0", "0 violations"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
	if s := progress.String(); !strings.Contains(s, "operations, 0 violations") {
		t.Errorf("progress = %q; want operations and violations", s)
	}
}

// TestCaught lets one actor do what must not happen.
func TestCaught(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	for _, tc := range []struct {
		name string
		run  func(context.Context, *actor)
		want string
	}{
		{"lose an object", func(_ context.Context, a *actor) {
			_, _ = a.allocate(a.newCache("lost", 64, 0))
			a.cancel()
		}, `cache "lost": 1 objects are live after all were freed`},
		{"hand an object out twice", func(_ context.Context, a *actor) {
			o, _ := a.allocate(a.newCache("twice", 64, 0))
			*(*uint64)(unsafe.Add(o.at, 32)) = 7
			a.release(o)
		}, `an object of cache "twice"`},
		{"free twice", func(_ context.Context, a *actor) {
			c := a.newCache("double", 64, 0)
			o, _ := a.allocate(c)
			o.free(o.cache)
			o.free(o.cache)
			c.Shrink()
			a.cancel()
		}, "free already"},
		{"fail with a wrong error", func(_ context.Context, a *actor) {
			a.newCache("name", 64, 0)
			a.newCache("name", 64, 0)
		}, `create "name": create cache "name": the name is taken; want success`},
		{"fail with a wrong errno", func(_ context.Context, a *actor) {
			_, _ = a.ask(opRead, "nothing", request{Do: "cat", Path: a.path("nothing/order")}, syscall.ENODEV)
		}, `read "nothing": no such file or directory; want success, or "no such device"`},
		{"panic", func(_ context.Context, a *actor) {
			_ = a.do(opCreate, "x", func() error { panic("ouch") })
		}, "panic: ouch"},
		{"lose the client", func(_ context.Context, a *actor) {
			a.client.kill()
			_, _ = a.ask(opRead, "x", request{Do: "cat", Path: a.path("x")}, syscall.ENOENT)
		}, errClient.Error()},
		{"hide a cache", func(_ context.Context, a *actor) {
			a.newCache("hidden", 64, 0)
			delete(a.census.shown, "hidden")
			a.cancel()
		}, `the second tree shows the caches`},
		{"hang", func(_ context.Context, a *actor) {
			_ = a.do(opDestroy, "stuck", func() error { <-block; return nil })
		}, `destroy "stuck" has not ended after 1.`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			actorKinds["bad"] = actorKind{0, true, tc.run}
			defer delete(actorKinds, "bad")
			c := Config{Duration: time.Minute, Seed: 1, Actors: Actors{"bad": 1, "store": 1}}
			if tc.name == "hang" {
				c.Deadline = time.Second
			}
			out, errs, err := run(t, c)
			if !errors.Is(err, ErrViolation) || !strings.Contains(err.Error(), "again: slabfs stress --seed 1 --duration 1m0s --actors bad=1,") {
				t.Errorf("Run = %v; want %v, and the command that repeats it", err, ErrViolation)
			}
			if !strings.Contains(errs, tc.want) {
				t.Errorf("standard error:\n%swant %q in it", errs, tc.want)
			}
			if strings.Contains(out, "\n0 violations") {
				t.Errorf("the table counts no violation:\n%s", out)
			}
			if tc.name == "hang" && !strings.Contains(errs, "stress.TestCaught.func") {
				t.Errorf("standard error shows no stack of the actor that hangs:\n%s", errs)
			}
		})
	}
}

// TestMountFails leaves no directory and no client.
func TestMountFails(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "there", "is", "none")
	err := Run(context.Background(), Config{Duration: time.Second, Deadline: time.Minute, Actors: Actors{"store": 1},
		Dir: dir, Client: []string{"client"}, Out: io.Discard, Err: io.Discard})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Run on %q: %v; want %v", dir, err, os.ErrNotExist)
	}
}

func TestActors(t *testing.T) {
	for _, tc := range []struct {
		flag, want, err string
	}{
		{"store=8", "store=8", ""},
		{"store=8,hoard=0", "hoard=0,store=8", ""},
		{"store=5", "", ""}, // the default
		{"stores=5", "", `no actor "stores", want one of alloc attach busy`},
		{"store", "", `"store": want KIND=COUNT`},
		{"store=-1", "", `"store=-1": want KIND=COUNT`},
		{"store=256", "", `"store=256": want KIND=COUNT`},
		{"", "", `no actor ""`},
	} {
		n := DefaultActors()
		err := n.Set(tc.flag)
		if n.String() != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("Set(%q) = %v, actors %q; want %q, %q", tc.flag, err, n, tc.err, tc.want)
		}
	}
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := startClient([]string{"client"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		q    request
		want string
		err  error
	}{
		{request{"cat", file, ""}, "one\n", nil},
		{request{"echo", file, "two\n"}, "", nil},
		{request{"open", file, ""}, "", nil},
		{request{"read", "", ""}, "two\n", nil},
		{request{"write", "", "x"}, "", syscall.EBADF},
		{request{"close", "", ""}, "", nil},
		{request{"openw", file, ""}, "", nil},
		{request{"write", "", "six"}, "", nil},
		{request{"close", "", ""}, "", nil},
		{request{"cat", file, ""}, "six\n", nil},
		{request{"list", dir, ""}, "file", nil},
		{request{"cat", dir, ""}, "", syscall.EISDIR},
		{request{"echo", filepath.Join(dir, "none"), "x"}, "", syscall.ENOENT},
		{request{"openw", dir, ""}, "", syscall.EISDIR},
		{request{"dance", "", ""}, "", errClient}, // it gives up
	} {
		got, err := c.do(tc.q)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%+v = %q, %v; want %q, %v", tc.q, got, err, tc.want, tc.err)
		}
	}
	if !c.gone(time.Minute) {
		t.Error("the client is there after a request that it does not know")
	}
}

func TestIntact(t *testing.T) {
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.NewCache("c", 24, alloc.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		o, ok := newObject(c, 1<<16)
		if !ok || !o.intact() || len(o.words()) != 3 {
			t.Fatalf("a new object of %d words is intact: %v", len(o.words()), o.intact())
		}
		o.words()[i]++
		if o.intact() {
			t.Errorf("an object is intact after a write to word %d", i)
		}
		o.free(o.cache)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
