package bench

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// selected returns the workloads of the report, in their order.
func (r *Report) selected() []*workload {
	var list []*workload
	for _, w := range allWorkloads {
		if slices.Contains(r.Workloads, w.name) {
			list = append(list, w)
		}
	}
	return list
}

// Table writes the report for people.
func (r *Report) Table(out io.Writer) error {
	w := bufio.NewWriter(out)
	m := r.Machine
	fmt.Fprintf(w, "%s, %d CPUs, Linux %s, %s %s/%s, %s\n", m.CPU, m.CPUs, m.Kernel, m.Go, m.OS, m.Arch, r.Time.Format("2006-01-02"))
	samples := r.calm()
	var floor []float64
	for _, s := range samples {
		floor = append(floor, s.Floor[:]...)
	}
	fmt.Fprintf(w, "%s of %s, %v a cell; F %s ± %s; %d of %d samples discarded, since F moved\n\n",
		count(r.Processes, "process", "processes"), count(r.Rounds, "round", "rounds"), r.Duration,
		nanoseconds(median(floor)), percent(spread(floor)), len(r.Samples)-len(samples), len(r.Samples))

	rows := [][]string{append([]string{""}, r.Allocators...)}
	for _, work := range r.selected() {
		for i, unit := range work.units {
			figures, worst := []string{work.name + unit.row}, []string{"  worst process"}
			for j, name := range r.Allocators {
				s := summarize(samples, work, i, name, r.Allocators[0])
				figures = append(figures, s.figure(unit, j > 0))
				worst = append(worst, s.worstFigure(unit))
			}
			rows = append(rows, figures)
			if r.Processes > 1 && !work.heavy {
				rows = append(rows, worst)
			}
		}
	}
	align(w, rows)

	fmt.Fprintf(w, "\nmedian ± half the distance between quartiles; x: ratio to %s\n", r.Allocators[0])
	for _, work := range r.selected() {
		fmt.Fprintf(w, "%-12s %s\n", work.name, work.what)
	}
	for _, note := range append(r.Notes, r.agreement()...) {
		fmt.Fprintln(w, note)
	}
	return w.Flush()
}

// figure is a cell of the table.
func (s summary) figure(u unit, ratio bool) string {
	if s.n == 0 {
		return "-"
	}
	text := fmt.Sprintf("%s ± %s", u.format(s.median), percent(s.spread))
	if ratio && !math.IsNaN(s.ratio) {
		text += fmt.Sprintf(" %sx", digits(s.ratio))
	}
	return text
}

// worstFigure is the cell below, for the worst process.
func (s summary) worstFigure(u unit) string {
	if s.n == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%.2f)", u.format(s.worst), s.worst/s.median)
}

func (u unit) format(v float64) string {
	if u == nsPerOp {
		return nanoseconds(v)
	}
	return digits(v)
}

// nanoseconds formats a time with three digits and its unit.
func nanoseconds(v float64) string {
	for _, u := range []string{"ns", "µs", "ms"} {
		if v < 999.5 {
			return digits(v) + " " + u
		}
		v /= 1000
	}
	return digits(v) + " s"
}

// digits formats a number with three digits, or more before the point.
func digits(v float64) string {
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

func percent(part float64) string { return fmt.Sprintf("%.0f%%", 100*part) }

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// align writes rows as columns: the first to the left, the others to the right.
func align(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			width[i] = max(width[i], utf8.RuneCountInString(text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, text := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(text))
			if i == 0 {
				line.WriteString(text + pad)
			} else {
				line.WriteString("   " + pad + text)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// Benchstat writes a line for each sample, for benchstat: compare allocators by
// -col /alloc.
func (r *Report) Benchstat(out io.Writer) error {
	w := bufio.NewWriter(out)
	m := r.Machine
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: slabfs/internal/bench\ncpu: %s\nkernel: %s\ngo: %s\n", m.OS, m.Arch, m.CPU, m.Kernel, m.Go)
	samples := r.calm()
	for _, work := range r.selected() {
		for _, name := range r.Allocators {
			for _, s := range samples {
				if s.Workload != work.name || s.Allocator != name {
					continue
				}
				fmt.Fprintf(w, "Benchmark%s%s/alloc=%s-%d %d", strings.ToUpper(work.name[:1]), work.name[1:], name, m.CPUs, max(s.N, 1))
				for i, unit := range work.units {
					fmt.Fprintf(w, " %.5g %s", s.Values[i], unit.name)
				}
				fmt.Fprintln(w)
			}
		}
	}
	return w.Flush()
}

// maxDisagree is how far pair may be from the same loop as a plain Go benchmark.
const maxDisagree = 0.10

// Disagree returns, for each allocator of which that is more than it may be, by what
// part its plain benchmark differs from pair; NaN where either has no calm sample.
func (r *Report) Disagree() map[string]float64 {
	over := make(map[string]float64)
	for name, d := range r.differences() {
		if !(math.Abs(d) <= maxDisagree) {
			over[name] = d
		}
	}
	return over
}

// differences returns plain/pair - 1, of medians, for each allocator that plain ran on.
func (r *Report) differences() map[string]float64 {
	values := make(map[[2]string][]float64)
	for _, s := range r.calm() {
		key := [2]string{s.Workload, s.Allocator}
		values[key] = append(values[key], s.Values[0])
	}
	all := make(map[string]float64)
	for _, s := range r.Samples {
		if s.Workload == "plain" {
			all[s.Allocator] = median(values[[2]string{"plain", s.Allocator}])/median(values[[2]string{pair.name, s.Allocator}]) - 1
		}
	}
	return all
}

// agreement says how far pair and plain differ.
func (r *Report) agreement() []string {
	all := r.differences()
	var parts []string
	for _, name := range r.Allocators {
		if d, ok := all[name]; ok && !math.IsNaN(d) {
			parts = append(parts, fmt.Sprintf("%s %+.0f%%", name, 100*d))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return []string{"plain against pair: " + strings.Join(parts, ", ")}
}
