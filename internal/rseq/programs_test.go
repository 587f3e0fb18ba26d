//go:build linux && amd64 && !race

package rseq

import (
	"bytes"
	"debug/elf"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

var longFlag = flag.Bool("slabfs.long", false, "build the test programs in every way, which takes minutes the first time")

// A build is a program of testdata and how it is built.
type build struct {
	dir  string
	env  string   // CGO_ENABLED and the like
	args []string // of go build
	long bool     // the first time it compiles the standard library, or links for long
	c    bool     // needs a C compiler

	once sync.Once
	path string
	err  error
}

const (
	noCgo = "CGO_ENABLED=0"
	cgo   = "CGO_ENABLED=1"
)

var builds = map[string]*build{
	"pure Go":       {dir: "engine", env: noCgo},
	"cgo":           {dir: "engine", env: cgo, args: []string{"-tags=withcgo"}, c: true},
	"ends":          {dir: "ends", env: cgo, c: true},
	"net":           {dir: "engine", env: cgo, args: []string{"-tags=withnet"}, long: true, c: true},
	"static glibc":  {dir: "engine", env: cgo, args: []string{"-tags=withcgo", "-ldflags=-linkmode=external -extldflags=-static"}, long: true, c: true},
	"PIE":           {dir: "engine", env: noCgo, args: []string{"-buildmode=pie"}, long: true},
	"PIE with cgo":  {dir: "engine", env: cgo, args: []string{"-buildmode=pie", "-tags=withcgo"}, long: true, c: true},
	"invariants":    {dir: "engine", env: noCgo, args: []string{"-tags=slabfs_invariants"}, long: true},
	"coverage":      {dir: "engine", env: noCgo, args: []string{"-cover", "-coverpkg=slabfs/..."}, long: true},
	"not optimized": {dir: "engine", env: noCgo, args: []string{"-gcflags=all=-N -l"}, long: true},
	"GOAMD64=v3":    {dir: "engine", env: "GOAMD64=v3", long: true},
	"race":          {dir: "engine", env: cgo, args: []string{"-race"}, long: true, c: true},
	"host":          {dir: "plugin/host", env: cgo, long: true, c: true},
	"guest":         {dir: "plugin/guest", env: cgo, args: []string{"-buildmode=plugin"}, long: true, c: true},
	"c-shared":      {dir: "cshared", env: cgo, args: []string{"-buildmode=c-shared"}, long: true, c: true},
	"c-archive":     {dir: "cshared", env: cgo, args: []string{"-buildmode=c-archive"}, long: true, c: true},
	"purego":        {dir: "purego", env: noCgo, long: true}, // has a C runtime all the same
}

// A run is how a built program is started, and what it must say.
type run struct {
	name  string
	build string
	env   string
	args  []string
	want  string // of the output, a regular expression
	fails bool   // it says so on standard error
}

const (
	isRSeq = `engine=rseq unregistered=0 aborts=\d+`
	isLock = `engine=lock unregistered=0 aborts=0`
	// forced asks for what the program cannot have, to hear why.
	forced = "SLABFS_PERCPU=rseq"
)

var runs = []run{
	{name: "pure Go", build: "pure Go", want: isRSeq},
	{name: "pure Go, rseq forced", build: "pure Go", env: forced, want: isRSeq},
	{name: "pure Go, lock forced", build: "pure Go", env: "SLABFS_PERCPU=lock", want: isLock},
	{name: "pure Go on one processor", build: "pure Go", env: "GOMAXPROCS=1", want: isRSeq},
	{name: "pure Go, little address space", build: "pure Go", args: []string{"-space=2000000000"}, want: isRSeq},
	{name: "rseq refused", build: "pure Go", args: []string{"-filter=rseq=1"}, want: isLock},
	{name: "rseq unknown", build: "pure Go", args: []string{"-filter=rseq=38"}, want: isLock},
	{name: "rseq refused, rseq forced", build: "pure Go", args: []string{"-filter=rseq=1"}, env: forced, want: "rseq: operation not permitted; use engine lock", fails: true},
	{name: "rseq refused once it works", build: "pure Go", args: []string{"-late=rseq=1"}, want: `engine=rseq unregistered=[1-9]\d* aborts=\d+`},
	{name: "membarrier refused", build: "pure Go", args: []string{"-filter=membarrier=1"}, want: isLock},
	{name: "membarrier unknown", build: "pure Go", args: []string{"-filter=membarrier=38"}, want: isLock},
	{name: "membarrier refused, rseq forced", build: "pure Go", args: []string{"-filter=membarrier=1"}, env: forced, want: "membarrier .*operation not permitted; use engine lock", fails: true},
	{name: "membarrier refused once it works", build: "pure Go", args: []string{"-late=membarrier=1"}, want: `close the sheaves of cache "work": membarrier: operation not permitted`, fails: true},
	{name: "both deadly, lock forced", build: "pure Go", args: []string{"-filter=rseq=0,membarrier=0"}, env: "SLABFS_PERCPU=lock", want: isLock},

	{name: "cgo", build: "cgo", want: isRSeq},
	{name: "cgo without glibc's registration", build: "cgo", env: "GLIBC_TUNABLES=glibc.pthread.rseq=0", want: isLock},
	{name: "cgo, rseq refused from the start", build: "cgo", args: []string{"-filter=rseq=1", "-again"}, want: isLock},
	{name: "cgo, membarrier refused", build: "cgo", args: []string{"-filter=membarrier=1"}, want: isLock},
	{name: "cgo, a thread loses its registration", build: "cgo", args: []string{"-unregister"}, want: `engine=rseq unregistered=1 aborts=\d+`},
	{name: "cgo, threads end and glibc unmaps their stacks", build: "ends", env: "GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0", want: "engine=rseq unregistered=0"},
	{name: "net with cgo", build: "net", want: isRSeq},
	{name: "static glibc", build: "static glibc", want: isLock},
	{name: "static glibc, rseq forced", build: "static glibc", env: forced, want: "the program is static; use engine lock", fails: true},

	// The main thread was registered by ld.so, for which Go has no use.
	{name: "PIE", build: "PIE", want: `engine=rseq unregistered=[01] aborts=\d+`},
	{name: "PIE, main stays on the main thread", build: "PIE", args: []string{"-locked"}, want: `engine=rseq unregistered=1 aborts=\d+`},
	{name: "PIE with cgo", build: "PIE with cgo", args: []string{"-locked"}, want: isRSeq},
	{name: "invariants", build: "invariants", want: isRSeq},
	{name: "coverage", build: "coverage", want: isRSeq},
	{name: "not optimized", build: "not optimized", want: isRSeq},
	{name: "GOAMD64=v3", build: "GOAMD64=v3", want: isRSeq},
	{name: "race", build: "race", want: isLock},
	{name: "race, rseq forced", build: "race", env: forced, want: "no race detector", fails: true},
	{name: "purego", build: "purego", want: isRSeq},
	{name: "purego without glibc's registration", build: "purego", env: "GLIBC_TUNABLES=glibc.pthread.rseq=0", want: isLock},
}

// Every way to build and to start a program: none crashes, none loses an object,
// and each says the engine that docs/rseq.md says it has.
func TestPrograms(t *testing.T) {
	need(t)
	for _, r := range runs {
		b := builds[r.build]
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.check(t, b.get(t))
		})
	}
}

// check runs a program.
func (r *run) check(t *testing.T, path string, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(path, append(args, r.args...)...)
	cmd.Env = append(os.Environ(), "SLABFS_PERCPU=", "GOCOVERDIR="+t.TempDir())
	if r.env != "" {
		cmd.Env = append(cmd.Env, r.env)
	}
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	said, want := out.String(), regexp.MustCompile("^("+r.want+"\n)+$")
	if r.fails {
		said, want = errs.String(), regexp.MustCompile(r.want)
	}
	var exit *exec.ExitError
	if asExit := errors.As(err, &exit) && exit.ExitCode() == 1; r.fails != asExit || !r.fails && err != nil || !want.MatchString(said) {
		t.Errorf("%v %v: %v, and it said\n%s%s\nwant %q", r.env, cmd.Args[1:], err, out.Bytes(), errs.Bytes(), r.want)
	}
}

// get builds the program, once.
func (b *build) get(t *testing.T) string {
	t.Helper()
	if b.long && !*longFlag {
		t.Skip("without -slabfs.long")
	}
	if b.c {
		needC(t)
	}
	b.once.Do(func() {
		b.path = filepath.Join(programs, regexp.MustCompile(`\W`).ReplaceAllString(b.dir+strings.Join(b.args, "")+b.env, "_"))
		cmd := exec.Command("go", append(append([]string{"build", "-o", b.path}, b.args...), ".")...)
		cmd.Dir = filepath.Join("testdata", b.dir)
		cmd.Env = append(os.Environ(), "GOWORK=off", b.env)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = errors.New(err.Error() + "\n" + string(out))
		}
	})
	if b.err != nil {
		if b.dir == "purego" && !fetched(b.dir) {
			t.Skipf("its modules cannot be fetched: %v", b.err)
		}
		t.Fatalf("build: %v", b.err)
	}
	return b.path
}

// needC skips the test where no C compiler is.
func needC(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip(err)
	}
}

// fetched reports whether the modules that a program needs are there.
func fetched(dir string) bool {
	cmd := exec.Command("go", "mod", "download")
	cmd.Dir = filepath.Join("testdata", dir)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	return cmd.Run() == nil
}

// programs is where programs are built.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "slabfs-rseq")
	if err != nil {
		panic(err)
	}
	programs = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// A program that imports alloc and no C stays static, though cgo could be used.
func TestStaysStatic(t *testing.T) {
	needC(t)
	b := build{dir: "engine", env: cgo}
	f, err := elf.Open(b.get(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program has a segment %v: it is dynamic", p.Type)
		}
	}
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("the program needs %q, %v", libs, err)
	}
}

// interpreter returns the dynamic linker that a program asks for.
func interpreter(t *testing.T, program string) string {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	interp, err := f.Section(".interp").Data()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(interp), "\x00")
}

// A program that its dynamic linker was told to run, of which the kernel tells
// the program nothing then.
func TestRunByLinker(t *testing.T) {
	need(t)
	for _, name := range []string{"cgo", "PIE with cgo"} {
		t.Run(name, func(t *testing.T) {
			program := builds[name].get(t)
			(&run{want: isRSeq}).check(t, interpreter(t, program), program)
		})
	}
}

// A dynamic linker that does not show where glibc's areas are: a copy of the
// machine's with the name of the symbol changed.
func TestHiddenSymbol(t *testing.T) {
	need(t)
	needC(t)
	linker, err := os.ReadFile(interpreter(t, builds["cgo"].get(t)))
	if err != nil {
		t.Fatal(err)
	}
	hidden := bytes.ReplaceAll(linker, []byte("__rseq_offset\x00"), []byte("__rseq_offxxx\x00"))
	if bytes.Equal(linker, hidden) {
		t.Skip("the dynamic linker has no __rseq_offset")
	}
	path := filepath.Join(t.TempDir(), "ld.so")
	if err := os.WriteFile(path, hidden, 0o755); err != nil {
		t.Fatal(err)
	}
	b := build{dir: "engine", env: cgo, args: []string{"-tags=withcgo", "-ldflags=-linkmode=external -extldflags=-Wl,--dynamic-linker=" + path}}
	program := b.get(t)
	(&run{want: isLock}).check(t, program)
	(&run{env: forced, want: "its dynamic linker has no __rseq_offset", fails: true}).check(t, program)
}

// A plugin has its own copy of the sequences, assembled in another way, and
// shares variables with its host: it takes slow paths, also with a cache of the host,
// on which the host runs sequences at the same time.
func TestPlugin(t *testing.T) {
	need(t)
	host, guest := builds["host"].get(t), builds["guest"].get(t)
	(&run{want: isRSeq + `\nengine=lock unregistered=0 aborts=\d+\n` + isRSeq}).check(t, host, guest)
	(&run{env: forced, want: "a sequence was not assembled as it was written", fails: true}).check(t, host, guest)
}

// Programs in C that call Go, from threads of theirs too.
func TestCallFromC(t *testing.T) {
	need(t)
	const source = "testdata/cshared/main/main.c"
	shared, archive := builds["c-shared"].get(t), builds["c-archive"].get(t)
	for _, tc := range []struct {
		name, library, want string
		args                []string
	}{
		{"shared library", shared, isRSeq, nil},
		{"archive", archive, isRSeq, nil},
		{"archive in a static program", archive, isLock, []string{"-static"}},
	} {
		path := filepath.Join(t.TempDir(), "main")
		args := append([]string{"-x", "c", source, "-x", "none", "-o", path, tc.library, "-pthread", "-Wl,-rpath," + programs}, tc.args...)
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", tc.name, err, out)
			continue
		}
		(&run{name: tc.name, want: tc.want}).check(t, path)
	}
}
