package stress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

func TestMain(m *testing.M) {
	for name, k := range badActors {
		actorKinds[name] = k
	}
	if len(os.Args) > 1 && slices.Contains([]string{"client", "world", "judge"}, os.Args[1]) {
		if err := Serve(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the other processes: a second for each otherwise
	lockdep.UseCond()                        // for model_test.go
	dir, err := os.MkdirTemp("", "slabfs-stress-test")
	if err != nil {
		panic(err)
	}
	os.Setenv("TMPDIR", dir) // where stacks are kept
	status := lockdep.Status(m.Run())
	_ = os.RemoveAll(dir)
	os.Exit(status)
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

// start runs with the given actors and returns what it printed.
func start(t *testing.T, c Config) (out, errs string, err error) {
	t.Helper()
	needRoot(t)
	var o, e buffer
	o.mu.Init(bufferClass)
	e.mu.Init(bufferClass)
	c.Out, c.Err = &o, &e
	c.Dir = filepath.Join(t.TempDir(), "mnt")
	if c.Deadline == 0 {
		c.Deadline = time.Minute
	}
	err = Run(context.Background(), c)
	if _, serr := os.Lstat(c.Dir); !errors.Is(serr, os.ErrNotExist) {
		t.Errorf("lstat %q after the run: %v; want that it is not there", c.Dir, serr)
	}
	if left := processesOf(t, c.Dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	t.Logf("%s%.2000s%v", o.String(), e.String(), err)
	return o.String(), e.String(), err
}

// processesOf returns the processes that have a text in their command line, with their roles.
func processesOf(t *testing.T, text string) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int]string)
	for _, file := range files {
		data, _ := os.ReadFile(file)
		if args := strings.Split(string(data), "\x00"); len(args) > 2 && strings.Contains(args[2], text) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			found[pid] = args[1]
		}
	}
	return found
}

// TestRun shows a run that proves nothing: there is nobody who meets. (That a full
// run holds is shown with the command, in integration.)
func TestRun(t *testing.T) {
	out, errs, err := start(t, Config{Duration: time.Second, Actors: Actors{"create": 1, "store": 1, "online": 1}, Progress: true})
	if !errors.Is(err, ErrInconclusive) {
		t.Fatalf("Run without a destroyer: %v; want %v", err, ErrInconclusive)
	}
	for _, want := range []string{"no drains that waited", "no stores in flight", "no creates refused"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Run without a destroyer: %v; want %q in it", err, want)
		}
	}
	for _, wrong := range []string{"hotplug", "typesafe", "limit", "section"} {
		if strings.Contains(err.Error(), wrong) {
			t.Errorf("Run without the actors for it: %v; want no word on %q", err, wrong)
		}
	}
	for _, want := range []string{"create", "open", "store", "end: close, unmount", "seed 0", "0 violations"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
	if !strings.Contains(errs, "operations, 0 violations") {
		t.Errorf("standard error is %q; want progress, with operations and violations", errs)
	}
}

// TestNamespaceCopy starts what has a copy of all mounts, as a container does,
// during a run. The copy outlives the run, and is nobody's mistake.
func TestNamespaceCopy(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var errs buffer
	errs.mu.Init(bufferClass)
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{Duration: time.Hour, Deadline: time.Minute, Actors: DefaultActors(), Dir: dir, Out: io.Discard, Err: &errs})
	}()
	for begun := false; !begun; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(dir + "/sys/kernel/slab/alloc0")
		begun = err == nil
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep infinity")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, ErrInconclusive) { // it may have been too short
		t.Errorf("Run while a mount namespace was made: %v; want no violation", err)
	}
	if text := errs.String(); !strings.Contains(text, "no violation") || !strings.Contains(text, "another mount namespace") {
		t.Errorf("standard error is %q; want a word on the copy", text)
	}
}

// badActors do what must not happen.
var badActors = map[string]actorKind{
	"bad-lose": {run: func(_ context.Context, a *actor) {
		_, _ = a.allocate(a.newCache("lost", 64, 0))
		a.cancel()
	}},
	"bad-overwrite": {run: func(_ context.Context, a *actor) {
		o, _ := a.allocate(a.newCache("twice", 64, 0))
		*(*uint64)(unsafe.Add(o.at, 32)) = 7
		a.release(o)
	}},
	"bad-free": {run: func(_ context.Context, a *actor) {
		c := a.newCache("double", 64, 0)
		o, _ := a.allocate(c)
		o.free(o.cache)
		o.free(o.cache)
		c.Shrink()
		a.cancel()
	}},
	"bad-error": {run: func(_ context.Context, a *actor) {
		a.newCache("name", 64, 0)
		a.newCache("name", 64, 0)
	}},
	"bad-number": {client: true, run: func(_ context.Context, a *actor) {
		_, _ = a.ask(opStoreGone, "nothing", request{Do: "cat", Path: a.path("nothing/order")})
	}},
	"bad-success": {client: true, run: func(_ context.Context, a *actor) {
		_, _ = a.ask(opListGone, "kmalloc-8", request{Do: "list", Path: a.path("kmalloc-8")})
	}},
	"bad-panic": {run: func(_ context.Context, a *actor) {
		_ = a.do(opCreate, "x", func() error { panic("ouch") })
	}},
	"bad-client": {client: true, run: func(_ context.Context, a *actor) {
		a.client.kill()
		_, _ = a.ask(opRead, "x", request{Do: "cat", Path: a.path("x")})
	}},
	"bad-census": {run: func(_ context.Context, a *actor) {
		a.newCache("hidden", 64, 0)
		a.census.mu.Lock()
		defer a.census.mu.Unlock()
		delete(a.census.shown, "hidden")
		a.cancel()
	}},
	"bad-type": {run: func(ctx context.Context, a *actor) {
		p := newKind(1 << 40).post(a.newCache("typed", 64, 0))
		defer p.free(a.a.Caches()[len(a.a.Caches())-1])
		a.board[0].Store(p)
		<-ctx.Done()
		a.board[0].Store(nil)
	}},
	"bad-lock": {run: func(_ context.Context, a *actor) {
		h := a.a.Hotplug()
		h.RLock()
		a.census.mu.Lock()
		a.census.mu.Unlock()
		h.RUnlock()
		a.census.mu.Lock()
		h.RLock()
		h.RUnlock()
		a.census.mu.Unlock()
	}},
	"bad-crash": {run: func(context.Context, *actor) { os.Exit(7) }},
	"bad-hang": {run: func(_ context.Context, a *actor) {
		_ = a.do(opDestroy, "stuck", hangForever)
	}},
	"bad-stop": {run: func(context.Context, *actor) { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }},
	"bad-end":  {run: func(ctx context.Context, a *actor) { a.cancel(); _ = hangForever() }},
}

func hangForever() error { select {} }

// TestCaught lets one actor do what must not happen.
func TestCaught(t *testing.T) {
	for kind, want := range map[string][]string{
		"bad-lose":      {`cache "lost": 1 objects are live after all were freed`, "a free was lost"},
		"bad-overwrite": {`objects that did not hold what was written to them, such as: an object of cache "twice"`, "two free lists"},
		"bad-free":      {"free already"}, // counted, or with invariants a panic
		"bad-error":     {`create, a name of its own "name": create cache "name": the name is taken; want success`, "the name must be free, and is not"},
		"bad-number":    {`store after the destroy "nothing": no such file or directory; want the cache is gone`, "before destroy returns"},
		"bad-success":   {`list after the destroy "kmalloc-8": success; want no such cache`, "its unlink came late"},
		"bad-panic":     {"panic: ouch", "the library panicked"},
		"bad-client":    {errClient.Error(), "something else went wrong before"},
		"bad-census":    {"the second tree shows the caches", "a publish or an unlink was lost"},
		"bad-type":      {"objects that were of another type", "before a grace period had passed"},
		"bad-crash":     {"the process of the allocator has ended before its time", "it crashed", "stress: "},
		"bad-hang":      {`destroy "stuck" has not ended after 1.`, "none of the known circles", "stress.hangForever"},
		"bad-stop":      {"the process of the allocator has said nothing for 1.", "it is stopped"},
		"bad-end":       {"the run should have ended", "none of the known circles", "stress.hangForever"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := Config{Duration: time.Minute, Seed: 1, Actors: Actors{kind: 1, "lookup": 1}}
			switch kind {
			case "bad-hang", "bad-stop", "bad-end":
				c.Deadline = time.Second
			}
			if kind == "bad-end" {
				c.Duration = time.Second
			}
			out, errs, err := start(t, c)
			again := fmt.Sprintf("again: slabfs stress --seed 1 --duration %v --actors ", c.Duration)
			if !errors.Is(err, ErrViolation) || !strings.Contains(err.Error(), again) || !strings.Contains(err.Error(), kind+"=1") {
				t.Errorf("Run = %v; want %v, and the command that repeats it", err, ErrViolation)
			}
			for _, w := range want {
				if !strings.Contains(errs, w) {
					t.Errorf("standard error:\n%swant %q in it", errs, w)
				}
			}
			if strings.Contains(out, ", 0 violations") {
				t.Errorf("the table counts no violation:\n%s", out)
			}
		})
	}
}

// TestLockdep has an order of locks reported that nobody hangs in.
func TestLockdep(t *testing.T) {
	_, errs, err := start(t, Config{Duration: time.Minute, Lockdep: true, Actors: Actors{"bad-lock": 1, "attach": 1}})
	if !errors.Is(err, ErrViolation) || !strings.Contains(err.Error(), "--lockdep") {
		t.Errorf("Run = %v; want %v, and --lockdep in what repeats it", err, ErrViolation)
	}
	for _, want := range []string{"WARNING: possible circular locking dependency detected", "lock order: ", "is a circle", "census_lock"} {
		if !strings.Contains(errs, want) {
			t.Errorf("standard error:\n%swant %q in it", errs, want)
		}
	}
}

// TestKilled kills one of the processes of a run: the others leave nothing.
func TestKilled(t *testing.T) {
	needRoot(t)
	for _, tc := range []struct {
		role string
		want error
	}{{"world", ErrViolation}, {"judge", ErrInconclusive}} {
		t.Run(tc.role, func(t *testing.T) {
			dir, seed := filepath.Join(t.TempDir(), "mnt"), rand.Uint64()
			ended := make(chan error, 1)
			go func() {
				ended <- Run(context.Background(), Config{Duration: time.Hour, Deadline: time.Minute, Seed: seed, Actors: DefaultActors(), Dir: dir, Out: io.Discard, Err: io.Discard})
			}()
			ours := fmt.Sprintf(`"Seed":%d,`, seed)
			for killed := false; !killed; time.Sleep(10 * time.Millisecond) {
				if _, err := os.Stat(dir + "/sys/kernel/slab/alloc0"); err != nil {
					continue // not begun yet
				}
				for pid, role := range processesOf(t, ours) {
					if role == tc.role {
						killed = syscall.Kill(pid, syscall.SIGKILL) == nil
					}
				}
			}
			if err := <-ended; !errors.Is(err, tc.want) {
				t.Errorf("Run with the %s killed = %v; want %v", tc.role, err, tc.want)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("lstat %q after the run: %v; want that it is not there", dir, err)
			}
			if left := processesOf(t, ours); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
		})
	}
}

// TestMountFails leaves no directory and no process.
func TestMountFails(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "there", "is", "none")
	var start *StartError
	for _, tc := range []struct {
		dir string
		ok  func(error) bool
	}{
		{none, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		{file, func(err error) bool { return errors.As(err, &start) && start.Status == 3 }}, // which TestMain gives
	} {
		err := Run(context.Background(), Config{Duration: time.Second, Deadline: time.Minute, Actors: Actors{"store": 1}, Dir: tc.dir, Out: io.Discard, Err: io.Discard})
		if !tc.ok(err) {
			t.Errorf("Run on %q: %v; want an error of the mount", tc.dir, err)
		}
	}
}

func TestActors(t *testing.T) {
	for _, tc := range []struct {
		flag, want, err string
	}{
		{"store=8", "store=8", ""},
		{"store=8,hoard=0", "hoard=0,store=8", ""},
		{"store=5", "", ""}, // the default
		{"stores=5", "", `no actor "stores", want one of alloc attach bad-`},
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
	c, err := startClient(nil)
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
