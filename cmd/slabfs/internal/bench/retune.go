package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"slabfs/alloc"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// What it costs to tune a cache while it works. Our own. All goroutines run
// pairs for 100 ms while a client process, which has the files open, writes
// cpu_partial and sheaf_capacity 100 times a second. They also run pairs for as
// long without writes. Each write flushes the sheaves of all CPUs. If files
// cannot be mounted, the workload calls the setters of the library instead, and
// a note says so.
var retune = &workload{
	name: "retune", what: "pairs on all goroutines while cpu_partial and sheaf_capacity are written 100 times a second; time per pair, and the share of undisturbed throughput that is left",
	units: []unit{nsPerOp, {name: "kept", row: " kept", more: true}}, phase: long, shared: true,
	open: func(e *env) (*cell, error) {
		if e.alloc == nil {
			return nil, nil // no other allocator has such files
		}
		h, err := e.heap(64)
		if err != nil {
			return nil, err
		}
		w, err := newWriter(e, h.(*slabHeap).c)
		if err != nil {
			return nil, errors.Join(err, h.close())
		}
		c := &cell{destroy: func() error { return errors.Join(w.close(), h.close()) }}
		begin := func() func(int) { return h.pairs }
		c.measure = func(d time.Duration) ([]float64, error) {
			slice := 20 * d
			var before float64
			var err error
			alone := func() float64 {
				_, rate := together(e.Goroutines, chunk, begin, sleep(slice))
				return rate
			}
			odd := !w.odd
			if w.odd = odd; odd { // alternate the order
				before = alone()
			}
			n, disturbed := together(e.Goroutines, chunk, begin, func() { err = w.write(max(int(slice/retuneEvery), 1)) })
			c.n = n
			if !odd {
				before = alone()
			}
			return []float64{1e9 / disturbed, disturbed / before}, err
		}
		return c, nil
	},
}

const retuneEvery = 10 * time.Millisecond

// A fileWriter retunes a cache.
type fileWriter struct {
	odd   bool
	write func(n int) error // writes n times, then returns
	close func() error
}

// newWriter starts a client of a mount. If that fails, the writer calls the
// library.
func newWriter(e *env, c *alloc.Cache) (*fileWriter, error) {
	w, err := newClient(e, c)
	if err == nil {
		return w, nil
	}
	e.bed.note("retune calls the library, since its files could not be mounted: %v", err)
	stores := []func() error{
		func() error { return c.SetCPUPartial(c.CPUPartial()) },
		func() error { return c.SetSheafCapacity(c.SheafCapacity()) },
	}
	return &fileWriter{
		write: func(n int) error { return paced(n, func(i int) error { return stores[i%len(stores)]() }) },
		close: func() error { return nil },
	}, nil
}

// paced calls f n times, at a fixed rate.
func paced(n int, f func(i int) error) error {
	tick := time.NewTicker(retuneEvery)
	defer tick.Stop()
	for i := range n {
		<-tick.C
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// A store is a text and the file that a client writes it to.
type store struct{ File, Text string }

// newClient mounts the files of the cache's allocator and starts a client. The
// client is a process that reads how many times to write, writes, and answers.
func newClient(e *env, c *alloc.Cache) (w *fileWriter, err error) {
	dir, err := os.MkdirTemp("", "slabfs-bench-")
	if err != nil {
		return nil, err
	}
	undo := []func() error{func() error { return os.Remove(dir) }}
	w = &fileWriter{close: sync.OnceValue(func() error {
		var errs []error
		for i := range undo {
			errs = append(errs, undo[len(undo)-1-i]())
		}
		return errors.Join(errs...)
	})}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	srv, err := slabattr.Mount(dir, e.alloc, fusefs.Options{})
	if err != nil {
		return nil, err
	}
	srv.UnmountOnSignal(syscall.SIGQUIT, syscall.SIGABRT)
	undo = append(undo, func() error { return srv.Unmount(context.Background()) })

	files := filepath.Join(dir, "sys/kernel/slab", c.ID())
	todo := order{Stores: []store{
		{filepath.Join(files, "cpu_partial"), fmt.Sprintln(c.CPUPartial())},
		{filepath.Join(files, "sheaf_capacity"), fmt.Sprintln(c.SheafCapacity())},
	}}
	in, out, end, err := startWorker(e.Worker)
	if err != nil {
		return nil, err
	}
	undo = append(undo, end)
	orders, answers := json.NewEncoder(in), json.NewDecoder(out)
	if err := orders.Encode(todo); err != nil {
		return nil, err
	}
	w.write = func(n int) error {
		if err := orders.Encode(n); err != nil {
			return err
		}
		var a answer
		if err := answers.Decode(&a); err != nil {
			return fmt.Errorf("the client of the mount ended: %w", err)
		}
		if a.Error != "" {
			return errors.New(a.Error)
		}
		return nil
	}
	return w, w.write(len(todo.Stores)) // so that both files are open
}

// startWorker starts this program with these arguments. end closes its input
// and waits for its end.
func startWorker(args []string) (in io.WriteCloser, out io.Reader, end func() error, err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd := exec.Command(exe, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the worker ends when we do, not by Ctrl-C
	if in, err = cmd.StdinPipe(); err != nil {
		return nil, nil, nil, err
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		return nil, nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, err
	}
	return in, out, func() error { return errors.Join(in.Close(), cmd.Wait()) }, nil
}

// client writes to files as often as it is told. It is the main function of the
// process that newClient starts.
func client(stores []store, in *json.Decoder, out io.Writer) error {
	files := make([]*os.File, len(stores))
	for i, s := range stores {
		f, err := os.OpenFile(s.File, os.O_WRONLY, 0)
		if err != nil {
			return json.NewEncoder(out).Encode(answer{Error: err.Error()})
		}
		defer func() { _ = f.Close() }() // the writes have reported errors already
		files[i] = f
	}
	for {
		var n int
		if err := in.Decode(&n); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("bench client: read the request: %w", err)
		}
		var a answer
		if err := paced(n, func(i int) error {
			_, err := files[i%len(files)].WriteAt([]byte(stores[i%len(files)].Text), 0)
			return err
		}); err != nil {
			a.Error = err.Error()
		}
		if err := json.NewEncoder(out).Encode(a); err != nil {
			return fmt.Errorf("bench client: answer: %w", err)
		}
	}
}
