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

func beMeasuring() error {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(jobEnv)), &j); err != nil {
		return err
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
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=measure", jobEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", j.Do, j.Path, err)
	}
	if err := json.Unmarshal(out, &took); err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
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
