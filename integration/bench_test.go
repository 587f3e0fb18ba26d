package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A job is what the role "measure" does N times.
type job struct {
	Do   string // a key of measures
	Path string
	N    int
}

const jobEnv = "SLABFS_TEST_JOB"

// measures prepare an operation, which is then timed. All of it is system calls.
var measures = map[string]func(path string) (operation func() error, err error){
	"pread": func(path string) (func() error, error) {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		buf := make([]byte, 1)
		return func() error {
			_, err := unix.Pread(fd, buf, 0)
			return err
		}, err
	},
	"open, read, close": func(path string) (func() error, error) {
		buf := make([]byte, 4096)
		return func() error {
			fd, err := unix.Open(path, unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			_, err = unix.Read(fd, buf)
			return errors.Join(err, unix.Close(fd))
		}, nil
	},
	"cat": func(path string) (func() error, error) { // what cat does: it reads to the end
		buf := make([]byte, 4096)
		return func() error {
			fd, err := unix.Open(path, unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			n := 1
			for n > 0 && err == nil {
				n, err = unix.Read(fd, buf)
			}
			return errors.Join(err, unix.Close(fd))
		}, nil
	},
	"echo": func(path string) (func() error, error) { // what a shell does
		return func() error {
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o666)
			if err != nil {
				return err
			}
			_, err = unix.Write(fd, []byte("30\n"))
			return errors.Join(err, unix.Close(fd))
		}, nil
	},
	"pwrite": func(path string) (func() error, error) {
		fd, err := unix.Open(path, unix.O_WRONLY, 0)
		return func() error {
			_, err := unix.Pwrite(fd, []byte("30\n"), 0)
			return err
		}, err
	},
}

// destroyJob makes the role "measure" destroy N caches through the mount at Path, each
// made before and looked at in the way that Do says, and write once to cpu_partial of
// another cache after one and before the next. It answers with both times of each round.
const destroyJob = "destroy after "

// beDestroying is what the role "measure" does with a destroyJob.
func beDestroying(j job) (took []time.Duration, err error) {
	caches, module := j.Path+"/sys/kernel/slab/", j.Path+"/sys/module/slabfs/"
	open := func(path string) (fd int) {
		if err == nil {
			fd, err = unix.Open(path, unix.O_WRONLY, 0)
		}
		return fd
	}
	create, destroy, tune := open(module+"new_cache"), open(module+"delete_cache"), open(caches+"kmalloc-64/cpu_partial")
	timed := func(fd int, text string) time.Duration {
		if err != nil {
			return 0
		}
		start := time.Now()
		_, err = unix.Pwrite(fd, []byte(text), 0)
		return time.Since(start)
	}
	buf := make([]byte, 4096)
	for i := range j.N {
		timed(create, "doomed 100 flags=no_merge\n")
		dir := caches + "doomed"
		switch strings.TrimPrefix(j.Do, destroyJob) {
		case "stat":
			var st unix.Stat_t
			err = errors.Join(err, unix.Stat(dir, &st))
		case "reading all":
			entries, dirErr := os.ReadDir(dir)
			err = errors.Join(err, dirErr)
			for _, e := range entries {
				var st unix.Stat_t
				err = errors.Join(err, unix.Stat(dir+"/"+e.Name(), &st), readFile(dir+"/"+e.Name(), buf))
			}
		}
		var destroyed, tuned time.Duration
		if i%2 == 0 { // the second one finds the server awake
			destroyed, tuned = timed(destroy, "doomed\n"), timed(tune, "30\n")
		} else {
			tuned, destroyed = timed(tune, "30\n"), timed(destroy, "doomed\n")
		}
		took = append(took, destroyed, tuned)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.Do, err)
		}
	}
	return took, nil
}

func readFile(path string, buf []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	_, err = unix.Read(fd, buf)
	return errors.Join(err, unix.Close(fd))
}

// BenchmarkDestroy is what the destroy of an idle cache takes by way of an open
// delete_cache, and in units of a write to an open cpu_partial in the same run: the ratio
// of the medians. Both alternate, in either order. Before, the cache is made, and looked
// at: not at all, by one stat of its directory, or by listing it, a stat of each file and
// reading it.
func BenchmarkDestroy(b *testing.B) {
	needRoot(b)
	for _, before := range []string{"nothing", "stat", "reading all"} {
		b.Run("after="+before, func(b *testing.B) {
			s := root.mount(b, root.newDir(b, true))
			took := measureInOrder(b, job{destroyJob + before, s.dir, max(b.N, 100)})
			var destroys, writes []time.Duration
			for i := 0; i < len(took); i += 2 {
				destroys, writes = append(destroys, took[i]), append(writes, took[i+1])
			}
			slices.Sort(destroys)
			slices.Sort(writes)
			b.ReportMetric(0, "ns/op") // what the child measured counts
			b.ReportMetric(float64(percentile(destroys, 50)), "median-ns")
			b.ReportMetric(float64(percentile(destroys, 99)), "p99-ns")
			b.ReportMetric(float64(percentile(writes, 50)), "write-median-ns")
			b.ReportMetric(float64(percentile(destroys, 50))/float64(percentile(writes, 50)), "ratio")
		})
	}
}

func beMeasuring() error {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(jobEnv)), &j); err != nil {
		return err
	}
	if strings.HasPrefix(j.Do, destroyJob) {
		took, err := beDestroying(j)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(took)
	}
	operation, err := measures[j.Do](j.Path)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range j.N {
		start := time.Now()
		if err := operation(); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s %s: %w", j.Do, j.Path, err)
		}
		took = append(took, time.Since(start))
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// beSpinning keeps one CPU busy until standard input ends.
func beSpinning() error {
	var end atomic.Bool
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		end.Store(true)
	}()
	for !end.Load() {
	}
	return nil
}

// measure lets a child process do a job. What it returns is sorted.
func measure(t testing.TB, j job) (took []time.Duration) {
	t.Helper()
	took = measureInOrder(t, j)
	slices.Sort(took)
	return took
}

func measureInOrder(t testing.TB, j job) (took []time.Duration) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=measure", jobEnv+"="+string(text), "GODEBUG=asyncpreemptoff=1") // no EINTR by its own signals
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", j.Do, j.Path, err)
	}
	if err := json.Unmarshal(out, &took); err != nil {
		t.Fatal(err)
	}
	return took
}

func percentile(took []time.Duration, p int) time.Duration { return took[(len(took)-1)*p/100] }

// busy keeps all CPUs busy until the benchmark ends.
func busy(b *testing.B) {
	b.Helper()
	for range runtime.NumCPU() {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleEnv+"=spin", "GOMAXPROCS=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
	}
}

// BenchmarkRequest is what one operation of another process takes, in ns and in
// requests that it waits for. With cpus=busy as many processes as there are CPUs
// compute all the time. The load works meanwhile, so that there is something to flush.
//
// Requests are counted, by a second server. Times in units of another request's
// time say little: each depends on whether client and server happen to share a
// CPU, and ratios of the same build came out between 1.7 and 3.4.
func BenchmarkRequest(b *testing.B) {
	needRoot(b)
	counting := root.mount(b, root.newDir(b, true), "--debug")
	for _, cpus := range []string{"idle", "busy"} {
		b.Run("cpus="+cpus, func(b *testing.B) {
			s := root.mount(b, root.newDir(b, true), "--load")
			if cpus == "busy" {
				busy(b)
			}
			for _, bm := range []struct{ name, do, cache, file string }{
				{"do=pread", "pread", "kmalloc-64", "order"},
				{"do=openReadClose", "open, read, close", "kmalloc-64", "objects"},
				{"do=cat", "cat", "kmalloc-64", "objects"},
				{"do=echo", "echo", "kmalloc-64", "cpu_partial"},
				{"do=pwrite/file=cpu_partial", "pwrite", "kmalloc-64", "cpu_partial"},
				{"do=pwrite/file=min_partial", "pwrite", "kmalloc-64", "min_partial"},
			} {
				b.Run(bm.name, func(b *testing.B) {
					j := job{bm.do, s.attr(bm.cache, bm.file), 100}
					measure(b, j) // the kernel knows the path afterwards
					j.N = max(b.N, 100)
					b.ResetTimer()
					took := measure(b, j)
					b.ReportMetric(0, "ns/op") // what the child measured counts
					b.ReportMetric(float64(percentile(took, 50)), "median-ns")
					b.ReportMetric(float64(percentile(took, 99)), "p99-ns")
					b.ReportMetric(float64(percentile(took, 100)), "max-ns")
					counted := job{bm.do, counting.attr(bm.cache, bm.file), 1000}
					b.ReportMetric(counting.waited(b, counted.N, func() { measure(b, counted) }), "requests")
				})
			}
		})
	}
}

// waited returns how many requests a client waited for in each of n operations.
// It waits for all but RELEASE and INTERRUPT.
func (s *server) waited(t testing.TB, n int, do func()) float64 {
	t.Helper()
	before := len(s.settle(t))
	do()
	requests := 0
	for _, op := range s.settle(t)[before:] {
		if op != "RELEASE" && op != "INTERRUPT" && op != "FORGET" && op != "BATCH_FORGET" {
			requests++
		}
	}
	return float64(requests) / float64(n)
}

// requestLine is a line of the log of --debug. go-fuse polls a file of its own, once,
// which has the highest node number.
var requestLine = regexp.MustCompile(`rx \d+: ([A-Z]+) [in](\d+)`)

// requests returns what the kernel has asked for so far.
func (s *server) requests() (ops []string) {
	for _, m := range requestLine.FindAllStringSubmatch(s.errs.String(), -1) {
		if m[2] != "18446744073709551615" {
			ops = append(ops, m[1])
		}
	}
	return ops
}

// settle returns the requests so far, when all files are closed: the RELEASE of
// each OPEN has come.
func (s *server) settle(t testing.TB) (ops []string) {
	t.Helper()
	eventually(t, "RELEASE for each OPEN", func() bool {
		ops = s.requests()
		open := 0
		for _, op := range ops {
			switch op {
			case "OPEN":
				open++
			case "RELEASE":
				open--
			}
		}
		return open == 0
	})
	return ops
}

// To open, read and close a file takes the kernel two requests that the client
// waits for; it does not wait for RELEASE. Once a second it asks for the path again.
func TestRoundTrips(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true), "--debug")
	c := root.client(t)
	objects, cpuPartial := s.attr("kmalloc-64", "objects"), s.attr("kmalloc-64", "cpu_partial")
	openReadClose := func(n int) { c.OK(Op{Do: "loop", Path: objects, Size: n}) }
	for _, tc := range []struct {
		what string
		do   func()
		want string
	}{
		{"open, read, close", func() { openReadClose(1) }, "OPEN READ RELEASE"},
		{"cat", func() { cat(c, objects) }, "OPEN READ READ RELEASE"},
		{"echo", func() { echo(c, cpuPartial, "30") }, "OPEN SETATTR WRITE RELEASE"},
	} {
		got := ""
		for end := time.Now().Add(patience); got != tc.want && time.Now().Before(end); {
			tc.do() // now the kernel knows the path, for a second
			before := len(s.settle(t))
			tc.do()
			got = strings.Join(s.settle(t)[before:], " ")
		}
		if got != tc.want {
			t.Errorf("%s: %s; want %s", tc.what, got, tc.want)
		}
	}
	const many = 1000
	trips := s.waited(t, many, func() { openReadClose(many) })
	for end := time.Now().Add(patience); trips > 2.2 && time.Now().Before(end); {
		trips = s.waited(t, many, func() { openReadClose(many) })
	}
	t.Logf("open, read, close: %.3f requests", trips)
	if trips > 2.2 {
		t.Errorf("open, read, close: %.2f requests that the client waits for; want at most 2.2", trips)
	}
}
