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

// A job is what the role "measure" does N times, each time followed by a round
// trip: a 1-byte pread of an open file whose Show returns at once.
type job struct {
	Do   string // a key of measures
	Path string
	Trip string // the file for round trips
	N    int
}

// times are what the role measured, in the order in which it did.
type times struct{ Took, Trips []time.Duration }

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
	trip, terr := measures["pread"](j.Trip)
	if err := errors.Join(err, terr); err != nil {
		return err
	}
	timed := func(f func() error) time.Duration {
		start := time.Now()
		if ferr := f(); ferr != nil && !errors.Is(ferr, unix.EINTR) {
			err = errors.Join(err, ferr)
		}
		return time.Since(start)
	}
	var t times
	for range j.N {
		t.Took = append(t.Took, timed(operation))
		t.Trips = append(t.Trips, timed(trip))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", j.Do, j.Path, err)
	}
	return json.NewEncoder(os.Stdout).Encode(t)
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
func measure(t testing.TB, j job) times {
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
	var got times
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Took)
	slices.Sort(got.Trips)
	return got
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
// round trips. With cpus=busy as many processes as there are CPUs compute all the
// time. The load works meanwhile, so that there is something to flush.
func BenchmarkRequest(b *testing.B) {
	needRoot(b)
	for _, cpus := range []string{"idle", "busy"} {
		b.Run("cpus="+cpus, func(b *testing.B) {
			s := root.mount(b, root.newDir(b, true), "--load")
			if cpus == "busy" {
				busy(b)
			}
			for _, bm := range []struct{ name, do, path string }{
				{"do=pread", "pread", s.module("version")},
				{"do=openReadClose", "open, read, close", s.attr("kmalloc-64", "objects")},
				{"do=cat", "cat", s.attr("kmalloc-64", "objects")},
				{"do=echo", "echo", s.attr("kmalloc-64", "cpu_partial")},
				{"do=pwrite/file=cpu_partial", "pwrite", s.attr("kmalloc-64", "cpu_partial")},
				{"do=pwrite/file=min_partial", "pwrite", s.attr("kmalloc-64", "min_partial")},
			} {
				b.Run(bm.name, func(b *testing.B) {
					j := job{bm.do, bm.path, s.module("version"), 100}
					measure(b, j) // the kernel knows the path afterwards
					j.N = max(b.N, 100)
					b.ResetTimer()
					t := measure(b, j)
					b.ReportMetric(0, "ns/op") // what the child measured counts
					median := percentile(t.Took, 50)
					b.ReportMetric(float64(median), "median-ns")
					b.ReportMetric(float64(percentile(t.Took, 99)), "p99-ns")
					b.ReportMetric(float64(percentile(t.Took, 100)), "max-ns")
					b.ReportMetric(float64(median)/float64(percentile(t.Trips, 50)), "round-trips")
				})
			}
		})
	}
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

// To open, read and close a file takes the kernel at most three requests that
// the client waits for; it does not wait for RELEASE.
func TestRoundTrips(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true), "--debug")
	c := root.client(t)
	objects, cpuPartial := s.attr("kmalloc-64", "objects"), s.attr("kmalloc-64", "cpu_partial")
	opened, released := 0, 0
	// All files are closed: the RELEASE of each OPEN has come.
	settle := func() (ops []string) {
		eventually(t, "RELEASE for each OPEN", func() bool {
			ops = s.requests()
			opened, released = 0, 0
			for _, op := range ops {
				switch op {
				case "OPEN":
					opened++
				case "RELEASE":
					released++
				}
			}
			return opened > 0 && opened == released
		})
		return ops
	}
	for _, tc := range []struct {
		what string
		do   func()
		want string
	}{
		{"open, read, close", func() {
			fd := c.OK(Op{Do: "open", Path: objects}).FD
			c.OK(Op{Do: "read", FD: fd, Size: 4096})
			c.OK(Op{Do: "close", FD: fd})
		}, "OPEN READ RELEASE"},
		{"cat", func() { cat(c, objects) }, "OPEN READ READ RELEASE"},
		{"echo", func() { echo(c, cpuPartial, "30") }, "OPEN SETATTR WRITE RELEASE"},
	} {
		got := ""
		for end := time.Now().Add(patience); got != tc.want && time.Now().Before(end); {
			tc.do() // now the kernel knows the path, for a second
			before := len(settle())
			tc.do()
			got = strings.Join(settle()[before:], " ")
		}
		if got != tc.want {
			t.Errorf("%s: %s; want %s", tc.what, got, tc.want)
		}
	}
}
