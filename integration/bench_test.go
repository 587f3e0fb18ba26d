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
	"pread": func(path string) (func() error, error) { // a round trip
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
	took := make([]time.Duration, j.N)
	for i := range took {
		start := time.Now()
		err := operation()
		took[i] = time.Since(start)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s %s: %w", j.Do, j.Path, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// beSpinning keeps one CPU busy until standard input ends.
func beSpinning() error {
	end := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(end)
	}()
	for {
		select {
		case <-end:
			return nil
		default:
		}
	}
}

// measure lets a child process do it n times and returns how long each took,
// the fastest first.
func measure(t testing.TB, do, path string, n int) []time.Duration {
	t.Helper()
	text, err := json.Marshal(job{do, path, n})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=measure", jobEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", do, path, err)
	}
	var took []time.Duration
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
// round trips: 1-byte preads of an open file whose Show returns at once.
func BenchmarkRequest(b *testing.B) {
	needRoot(b)
	for _, load := range []string{"idle", "busy"} {
		b.Run("cpus="+load, func(b *testing.B) {
			s := root.mount(b, root.newDir(b, true))
			if load == "busy" {
				busy(b)
			}
			for _, bm := range []struct{ name, do, path string }{
				{"pread", "pread", s.module("version")},
				{"openReadClose", "open, read, close", s.attr("kmalloc-64", "objects")},
				{"cat", "cat", s.attr("kmalloc-64", "objects")},
				{"echo", "echo", s.attr("kmalloc-64", "cpu_partial")},
				{"pwrite=cpu_partial", "pwrite", s.attr("kmalloc-64", "cpu_partial")},
				{"pwrite=min_partial", "pwrite", s.attr("kmalloc-64", "min_partial")},
			} {
				b.Run(bm.name, func(b *testing.B) {
					measure(b, bm.do, bm.path, 100) // the kernel knows the path afterwards
					n := max(b.N, 100)
					b.ResetTimer()
					took := measure(b, bm.do, bm.path, n)
					b.StopTimer()
					trip := percentile(measure(b, "pread", s.module("version"), n), 50)
					median := percentile(took, 50)
					b.ReportMetric(float64(median), "median-ns")
					b.ReportMetric(float64(percentile(took, 99)), "p99-ns")
					b.ReportMetric(float64(took[len(took)-1]), "max-ns")
					b.ReportMetric(float64(median)/float64(trip), "round-trips")
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
