package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Config says what a run measures.
type Config struct {
	Workloads  []string      // rows of the table
	Allocators []string      // columns; the others are compared with the first
	Sizes      []int         // object sizes, for workloads with a row for each
	Batches    []int         // how many objects bulk moves in one call
	Goroutines int           // in workloads with several
	Rounds     int           // calm samples of each cell that a process aims for
	Duration   time.Duration // about how long a cell runs
	Processes  int           // 1: measure in this process
	Objects    int           // live while the collector is measured; an upper bound in other workloads

	Worker   []string  `json:"-"` // arguments that make this program a worker
	Program  string    `json:"-"` // worker to start instead, with the same arguments; it brings Peers
	Progress io.Writer `json:"-"` // a terminal, or nil
	Label    string    // prefix of what Progress shows
	Process  int       // number of this process
}

// A Sample is one measurement of a cell, in one block.
type Sample struct {
	Process, Round int
	Row            string // the workload, a slash, and the place on its axis
	Allocator      string
	N              int        // operations
	Values         []float64  // one for each of the workload's units
	Floor          [2]float64 // F in ns, before and after; 0: the sample lasted too long for F to vouch for it
}

// A Report is what a run measured.
type Report struct {
	Machine Machine
	Time    time.Time
	Config
	Samples []Sample
	Notes   []string
}

// Check returns an error if the config is invalid.
func (c *Config) Check() error {
	workloads, _, _ := Workloads()
	allocators, _ := Allocators()
	for _, list := range []struct {
		kind       string
		have, know []string
	}{{"workload", c.Workloads, workloads}, {"allocator", c.Allocators, allocators}} {
		if len(list.have) == 0 {
			return fmt.Errorf("bench: no %s; name some of %s", list.kind, strings.Join(list.know, ", "))
		}
		for i, name := range list.have {
			switch {
			case !slices.Contains(list.know, name):
				return fmt.Errorf("bench: unknown %s %q; want some of %s", list.kind, name, strings.Join(list.know, ", "))
			case slices.Contains(list.have[:i], name):
				return fmt.Errorf("bench: %s %q is named twice", list.kind, name)
			}
		}
	}
	for _, list := range []struct {
		kind string
		have []int
		ok   func(int) bool
		want string
	}{
		{"size", c.Sizes, func(n int) bool { return n >= 8 && n <= 16384 && n&(n-1) == 0 }, "powers of two from 8 to 16384"},
		{"batch", c.Batches, func(n int) bool { return n >= 1 && n <= deep }, fmt.Sprintf("1 to %d", deep)},
	} {
		if len(list.have) == 0 {
			return fmt.Errorf("bench: no %s; want %s", list.kind, list.want)
		}
		for i, n := range list.have {
			switch {
			case !list.ok(n):
				return fmt.Errorf("bench: %s %d; want %s", list.kind, n, list.want)
			case slices.Contains(list.have[:i], n):
				return fmt.Errorf("bench: %s %d is named twice", list.kind, n)
			}
		}
	}
	if c.Rounds < 1 || c.Processes < 1 || c.Objects < 1 || c.Goroutines < 1 || c.Duration <= 0 {
		return fmt.Errorf("bench: %d rounds in %d processes, %v a cell, %d goroutines, %d objects; want more than zero of each",
			c.Rounds, c.Processes, c.Duration, c.Goroutines, c.Objects)
	}
	return nil
}

const interrupted = "interrupted: these are the results so far"

// Run measures until it is done or ctx ends. It returns what it has by then.
//
// Preconditions: Check returns nil.
func Run(ctx context.Context, c Config) (*Report, error) {
	run := runHere
	if c.Processes > 1 || c.Program != "" {
		run = runProcesses
	}
	report, err := run(ctx, c)
	if err == nil && ctx.Err() != nil && !slices.Contains(report.Notes, interrupted) { // a worker may have noted it
		report.Notes = append(report.Notes, interrupted)
	}
	c.show("")
	return report, err
}

// runHere measures in this process.
func runHere(ctx context.Context, c Config) (report *Report, err error) {
	b, err := newBed(&c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	report = newReport(c)
	defer func() {
		if err == nil {
			report.Notes = append(report.Notes, b.notes...)
		}
	}()
	f := new(cell).timeLoop(1, new(floor).pairs)
	r := runner{
		ctx: ctx, report: report, duration: c.Duration, process: c.Process,
		guard: func() float64 {
			values, _ := f(guardTime) // a loop cannot fail
			return values[0]
		},
		show: func(what string) { c.show(what) },
	}
	for _, p := range phases {
		if p == heavy && c.Process > 0 {
			break // once is enough: it does not depend on the layout of memory
		}
		var rows [][]*cell
		for _, row := range c.rows() {
			if row.phase != p {
				continue
			}
			cells, err := b.cellsOf(row, &c)
			if err != nil {
				return nil, err
			}
			if len(cells) > 0 {
				rows = append(rows, cells)
			}
		}
		if err := errors.Join(r.run(rows, p.plan(c.Rounds)), b.clear()); err != nil {
			return nil, err
		}
	}
	return report, nil
}

func newReport(c Config) *Report {
	return &Report{Machine: ThisMachine(), Time: time.Now(), Config: c}
}

// show replaces the line on the terminal.
func (c *Config) show(what string) {
	if c.Progress == nil {
		return
	}
	if what != "" {
		what = c.Label + what
	}
	_, _ = fmt.Fprintf(c.Progress, "\r%s\x1b[K", what) // if the terminal is gone, nobody misses the line
}

const (
	// maxMoved bounds how far F may be above its undisturbed value, as a
	// fraction of that value, before and after a sample that counts.
	maxMoved = 0.15

	// undisturbed is the quantile of all F that is taken as the undisturbed
	// value. On a shared machine the median would be a disturbed one.
	undisturbed = 0.1

	// guardTime is how long F is measured.
	guardTime = 100 * time.Microsecond
)

// calm returns the samples that count: F had not moved before or after them.
func (r *Report) calm() []Sample {
	limit := (1 + maxMoved) * quantile(floors(r.Samples), undisturbed)
	var calm []Sample
	for _, s := range r.Samples {
		if f := max(s.Floor[0], s.Floor[1]); f == 0 || f <= limit {
			calm = append(calm, s)
		}
	}
	return calm
}

// floors returns every F measured around the samples.
func floors(samples []Sample) []float64 {
	var all []float64
	for _, s := range samples {
		if s.Floor[0] > 0 {
			all = append(all, s.Floor[:]...)
		}
	}
	return all
}

// A runner measures blocks.
type runner struct {
	ctx      context.Context
	report   *Report
	plan     plan
	duration time.Duration
	process  int
	guard    func() float64 // F, in ns
	show     func(what string)
}

// run measures each row until there are enough calm samples of each of its
// cells, or until the plan's patience is used up.
func (r *runner) run(rows [][]*cell, p plan) error {
	r.plan = p
	if !p.once {
		for _, cells := range rows {
			if err := r.block(cells, -1); err != nil {
				return err
			}
		}
		r.report.Samples = slices.DeleteFunc(r.report.Samples, func(s Sample) bool { return s.Round < 0 })
	}
	for round := range p.patience * p.rounds {
		calm := r.report.calm()
		for _, cells := range rows {
			if r.enough(cells, calm) {
				continue
			}
			if err := r.block(cells, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// enough reports whether there are enough samples of each cell.
func (r *runner) enough(cells []*cell, samples []Sample) bool {
	have := make(map[string]int)
	for _, s := range samples {
		if s.Row == cells[0].row.name() {
			have[s.Allocator]++
		}
	}
	return !slices.ContainsFunc(cells, func(c *cell) bool { return have[c.allocator] < r.plan.rounds })
}

// block measures each cell once. If the run ends, it stops early.
func (r *runner) block(cells []*cell, round int) error {
	for _, c := range cells {
		if r.ctx.Err() != nil {
			break
		}
		r.show(fmt.Sprintf("round %d: %s on %s", round+1, c.row.name(), c.allocator))
		s, err := r.measure(c)
		if err != nil {
			return fmt.Errorf("%s on %s: %w", c.row.name(), c.allocator, err)
		}
		s.Process, s.Round = r.process, round
		r.report.Samples = append(r.report.Samples, s)
	}
	return nil
}

// measure measures a cell once.
func (r *runner) measure(c *cell) (s Sample, err error) {
	if c.clean != nil {
		defer func() { err = errors.Join(err, c.clean()) }()
	}
	if c.prepare != nil {
		if err := c.prepare(); err != nil {
			return Sample{}, err
		}
	}
	s = Sample{Row: c.row.name(), Allocator: c.allocator}
	if !r.plan.once {
		s.Floor[0] = r.guard()
	}
	s.Values, err = c.measure(r.duration)
	if !r.plan.once {
		s.Floor[1] = r.guard()
	}
	s.N = c.n
	return s, err
}
