package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// runProcesses measures in workers, one after the other. Each worker is a
// process with another memory layout.
func runProcesses(ctx context.Context, c Config) (*Report, error) {
	report := newReport(c)
	for p := range c.Processes {
		if ctx.Err() != nil {
			break
		}
		mine := c
		mine.Process, mine.Processes = p, 1
		mine.Label = fmt.Sprintf("%sprocess %d of %d, ", c.Label, p+1, c.Processes)
		part, err := runWorker(ctx, mine)
		if err != nil {
			return nil, err
		}
		report.add(part)
	}
	return report, nil
}

// add adds the samples of a worker.
func (r *Report) add(part *Report) {
	r.Allocators = part.Allocators // without those that the worker does not have
	for _, note := range part.Notes {
		if !slices.Contains(r.Notes, note) {
			r.Notes = append(r.Notes, note)
		}
	}
	r.Samples = append(r.Samples, part.Samples...)
}

// runWorker starts this program again. When ctx ends, the worker is told to
// stop, and still answers with what it has.
func runWorker(ctx context.Context, c Config) (*Report, error) {
	a, err := ask(ctx, c.Program, order{Config: c, Worker: c.Worker, Progress: c.Progress != nil})
	return a.Report, err
}

// ask starts a worker and gives it an order. The worker is the program exe, or
// this program if exe is empty.
func ask(ctx context.Context, exe string, o order) (answer, error) {
	if exe == "" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return answer{}, fmt.Errorf("start a worker: %w", err)
		}
	}
	todo, err := json.Marshal(o)
	if err != nil {
		return answer{}, fmt.Errorf("start a worker: %w", err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, exe, o.Worker...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(todo), &out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C reaches the worker only through us, once
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute // time to finish the current cell
	ran := cmd.Run()
	var a answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return answer{}, fmt.Errorf("worker %d: no report: %w", o.Config.Process+1, cmp.Or(ran, err))
	}
	if a.Error != "" {
		return answer{}, fmt.Errorf("worker %d: %s", o.Config.Process+1, a.Error)
	}
	return a, nil
}

// A worker reads an order and writes an answer.
type order struct {
	Config   Config
	Worker   []string // arguments that make this program a worker
	Progress bool     // on standard error

	Stores []store `json:",omitempty"` // if not empty: be a client of a mount instead
	Guard  bool    `json:",omitempty"` // measure the guard's rows instead
}

type answer struct {
	Report *Report            `json:",omitempty"`
	Ratios map[string]float64 `json:",omitempty"` // of the guard's rows
	Notes  []string           `json:",omitempty"` // remarks on the ratios
	Error  string             `json:",omitempty"`
}

// Work reads an order from in, carries it out and answers on out. It is the
// main function of a worker.
func Work(ctx context.Context, in io.Reader, out io.Writer) error {
	var o order
	orders := json.NewDecoder(in)
	if err := orders.Decode(&o); err != nil {
		return fmt.Errorf("bench worker: read the order: %w", err)
	}
	if len(o.Stores) > 0 {
		return client(o.Stores, orders, out)
	}
	o.Config.Worker = o.Worker
	if o.Progress {
		o.Config.Progress = os.Stderr
	}
	var a answer
	var err error
	if o.Guard {
		a.Ratios, a.Notes, err = guardHere(ctx)
	} else {
		a.Report, err = Run(ctx, o.Config)
	}
	if err != nil {
		a = answer{Error: err.Error()}
	}
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return fmt.Errorf("bench worker: answer: %w", err)
	}
	return nil
}
