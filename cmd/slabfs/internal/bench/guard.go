package bench

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// The guard tells whether a fast path became slower since baseline.json was
// recorded. It never compares times: it divides the time of a loop by the time
// of the reference's pairs, measured right before in the same process. Each
// process reports the median of some rounds. A row passes if any of several
// processes finds it within its limit. So a disturbance of one process, or of
// all for a while, is no failure, and a lasting slowdown is one.

// A guardedRow is a row on an allocator.
type guardedRow struct {
	workload  *workload
	allocator string
}

func (g guardedRow) name() string { return g.workload.name + " on " + g.allocator }

var guarded = []guardedRow{
	{pair, slabfsRSeq}, {pair, slabfsLock}, {pair, slabfsLocal}, {typed, slabfsRSeq}, {bytesPair, slabfsRSeq}, {deepInOrder, slabfsRSeq},
}

const (
	// guardMargin bounds the ratio, as a multiple of this processor's baseline.
	guardMargin = 1.3

	// guardStranger bounds the ratio on a processor without a baseline, as a
	// multiple of the highest baseline. Processors differ by less in what a
	// locked instruction, a cache miss or a call costs, in pairs.
	guardStranger = 2.5

	guardRounds = 21
	guardCell   = 2 * time.Millisecond
	guardPause  = 200 * time.Millisecond // multiplied by the number of processes that ran before
)

// baselines are the ratios of each row, by processor: vendor, family and model
// in /proc/cpuinfo.
//
//go:embed baseline.json
var baselines []byte

// A Guard is the configuration of a guard run.
type Guard struct {
	Worker    []string // arguments that make this program a worker
	Processes int      // how many may try
	Record    bool     // print baseline.json with this processor's ratios, judge nothing
}

// ErrSlower is the error of a guard that found a fast path too slow.
var ErrSlower = errors.New("a fast path is slower than it was")

// Run measures and writes what it finds to out.
func (g *Guard) Run(ctx context.Context, out io.Writer) error {
	if !hasReference {
		return errors.New("bench: guard: this processor has no fast path in assembly to guard")
	}
	base := make(map[string]map[string]float64)
	if err := json.Unmarshal(baselines, &base); err != nil {
		return fmt.Errorf("bench: guard: read the baseline: %w", err)
	}
	cpu := cpuKey(readFile("/proc/cpuinfo"))
	limits := limitsFor(base, cpu)
	found := make(map[string][]float64) // by row, one for each process
	for p := range g.Processes {
		if p > 0 {
			if !g.Record && len(over(found, limits)) == 0 {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(p) * guardPause):
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("bench: guard: %w", err)
		}
		a, err := ask(ctx, "", order{Config: Config{Worker: g.Worker, Process: p}, Worker: g.Worker, Guard: true})
		if err != nil {
			return err
		}
		for row, ratio := range a.Ratios {
			found[row] = append(found[row], ratio)
		}
		if p == 0 && !g.Record { // Record prints only the baseline
			for _, note := range a.Notes {
				fmt.Fprintln(out, note)
			}
		}
	}
	if len(found) == 0 {
		return errors.New("bench: guard: nothing was measured")
	}
	if g.Record {
		base[cpu] = make(map[string]float64)
		for row, ratios := range found {
			base[cpu][row] = math.Round(100*median(ratios)) / 100
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "\t")
		return e.Encode(base)
	}
	return judge(out, cpu, base, found)
}

// limitsFor returns the limit of each row's ratio.
func limitsFor(base map[string]map[string]float64, cpu string) map[string]float64 {
	limits := make(map[string]float64)
	if own, ok := base[cpu]; ok {
		for row, ratio := range own {
			limits[row] = guardMargin * ratio
		}
		return limits
	}
	for _, other := range base {
		for row, ratio := range other {
			limits[row] = max(limits[row], guardStranger*ratio)
		}
	}
	return limits
}

// over returns the rows that no process found within their limits.
func over(found map[string][]float64, limits map[string]float64) (rows []string) {
	for row, ratios := range found {
		if !(slices.Min(ratios) <= limits[row]) {
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	return rows
}

// judge prints the ratios, and returns an error if a row is over its limit.
func judge(out io.Writer, cpu string, base map[string]map[string]float64, found map[string][]float64) error {
	limits := limitsFor(base, cpu)
	what := "its own baseline"
	if base[cpu] == nil {
		what = "no baseline: the highest baseline of others, with a wide margin"
	}
	fmt.Fprintf(out, "processor %s: %s\n", cpu, what)
	lines := [][]string{{"", "processes", "best ratio", "limit"}}
	bad := over(found, limits)
	for _, row := range slices.Sorted(maps.Keys(found)) {
		line := []string{row, fmt.Sprint(len(found[row])), fmt.Sprintf("%.2f", slices.Min(found[row])), fmt.Sprintf("%.2f", limits[row])}
		if slices.Contains(bad, row) {
			line = append(line, "slower")
		} else {
			line = append(line, "ok")
		}
		lines = append(lines, line)
	}
	lines[0] = append(lines[0], "")
	align(out, lines)
	if len(bad) > 0 {
		return fmt.Errorf("bench: guard: %w: %s; if that is intended, record a new baseline", ErrSlower, strings.Join(bad, ", "))
	}
	return nil
}

// guardHere measures the rows in this process, by name.
func guardHere(ctx context.Context) (ratios map[string]float64, notes []string, err error) {
	c := Config{Sizes: []int{64}, Batches: []int{1}, Goroutines: 1}
	for _, g := range guarded {
		if !slices.Contains(c.Workloads, g.workload.name) {
			c.Workloads = append(c.Workloads, g.workload.name)
		}
		if !slices.Contains(c.Allocators, g.allocator) {
			c.Allocators = append(c.Allocators, g.allocator)
		}
	}
	b, err := newBed(&c)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var cells []*cell
	for _, row := range c.rows() {
		all, err := b.cellsOf(row, &c)
		if err != nil {
			return nil, nil, err
		}
		for _, c := range all {
			if slices.Contains(guarded, guardedRow{row.workload, c.allocator}) {
				cells = append(cells, c)
			}
		}
	}
	reference := new(cell).timeLoop(1, newReference().pairs)
	samples := make(map[string][]float64)
	for round := range guardRounds + 1 {
		for _, c := range cells {
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			floor, _ := reference(guardCell) // a loop cannot fail
			values, err := c.measure(guardCell)
			if err != nil {
				return nil, nil, err
			}
			if round > 0 { // the first one warms
				name := guardedRow{c.row.workload, c.allocator}.name()
				samples[name] = append(samples[name], values[0]/floor[0])
			}
		}
	}
	ratios = make(map[string]float64)
	for name, values := range samples {
		ratios[name] = median(values)
	}
	return ratios, b.notes, nil
}
