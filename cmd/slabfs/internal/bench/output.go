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

// machine describes the machine in a line.
func (r *Report) machine() string {
	m := r.Machine
	return fmt.Sprintf("%s, %d CPUs, Linux %s, %s %s/%s, %s", m.CPU, m.CPUs, m.Kernel, m.Go, m.OS, m.Arch, r.Time.Format("2006-01-02"))
}

// method describes how the figures were measured, in a line.
func (r *Report) method() string {
	text := fmt.Sprintf("%s of %s, %v a cell, %s", count(r.Processes, "process", "processes"), count(r.Rounds, "round", "rounds"),
		r.Duration, count(r.Goroutines, "goroutine", "goroutines"))
	samples := r.calm()
	if f := floors(samples); len(f) > 0 {
		text += fmt.Sprintf("; F %s ± %s; %d of %d samples discarded, since F moved",
			nanoseconds(median(f)), percent(spread(f)), len(r.Samples)-len(samples), len(r.Samples))
	}
	return text
}

// remarks returns the lines below the figures.
func (r *Report) remarks() []string { return append(slices.Clone(r.Notes), r.agreement()...) }

// across is how many columns a table has besides the first, so that it fits
// into a window.
const across = 3

// Width is the maximum width of lines of text.
const Width = 100

// Table writes the report for people.
func (r *Report) Table(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s\n%s\n", r.machine(), r.method())
	figures := r.figures()
	for from := 1; from == 1 || from < len(r.Allocators); from += across {
		columns := []int{0}
		for j := from; j < min(from+across, len(r.Allocators)); j++ {
			columns = append(columns, j)
		}
		fmt.Fprintln(w)
		align(w, r.block(figures, columns))
	}
	fmt.Fprintf(w, "\nmedian ± half the distance between quartiles; x: ratio to %s; -: not measured; disturbed: F moved each time\n", r.Allocators[0])
	rows := r.rows()
	for _, a := range []*axis{bySize, byBatch} {
		if i := slices.IndexFunc(rows, func(row row) bool { return row.axis == a }); i >= 0 {
			fmt.Fprintf(w, "%s: %s\n", rows[i].label(unit{}), a.what)
		}
	}
	for i, row := range rows {
		if i == 0 || row.workload != rows[i-1].workload {
			fmt.Fprintf(w, "%-16s %s\n", row.workload.name, Wrap(row.what, 17, Width))
		}
	}
	for _, line := range r.remarks() {
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

// block returns the lines of a table with some of the columns, without empty
// lines.
func (r *Report) block(figures []figure, columns []int) [][]string {
	rows := [][]string{{""}}
	for _, j := range columns {
		rows[0] = append(rows[0], r.Allocators[j])
	}
	for _, f := range figures {
		line, worst := []string{f.label()}, []string{"  worst process"}
		some := columns[len(columns)-1] <= across // the first block has every row
		for _, j := range columns {
			s := f.sums[j]
			some = some || j > 0 && (s.n > 0 || s.lost)
			line, worst = append(line, s.figure(f.unit, j > 0)), append(worst, s.worstFigure(f.unit))
		}
		if !some {
			continue
		}
		rows = append(rows, line)
		if r.Processes > 1 && f.phase != heavy {
			rows = append(rows, worst)
		}
	}
	return rows
}

// figure formats a cell of the table.
func (s summary) figure(u unit, ratio bool) string {
	if s.lost {
		return "disturbed"
	}
	if s.n == 0 {
		return "-"
	}
	text := u.format(s.median)
	if s.median != 0 {
		text += " ± " + percent(s.spread)
	}
	if ratio && !math.IsNaN(s.ratio) {
		text += fmt.Sprintf(" %sx", digits(s.ratio))
	}
	return text
}

// worstFigure formats the cell below, for the worst process.
func (s summary) worstFigure(u unit) string {
	if s.n == 0 {
		return ""
	}
	if s.median == 0 {
		return u.format(s.worst)
	}
	return fmt.Sprintf("%s (%.2f)", u.format(s.worst), s.worst/s.median)
}

func (u unit) format(v float64) string {
	if u.time() {
		return nanoseconds(v)
	}
	if _, after, ok := strings.Cut(u.name, "-"); ok { // RSS-MiB
		return digits(v) + " " + after
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

// digits formats a number with three digits, or with more before the point.
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

// Wrap breaks a text into lines no wider than width. The text begins at a
// column, and so does each line.
func Wrap(text string, column, width int) string {
	var all strings.Builder
	at := column
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			fmt.Fprintf(&all, "\n%*s", column, "")
			at = column
		default:
			all.WriteByte(' ')
			at++
		}
		all.WriteString(word)
		at += n
	}
	return all.String()
}

// align writes rows as columns. The first column is flush left, the others are
// flush right.
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

// Benchstat writes a line for each sample, for benchstat. To compare
// allocators, use -col /alloc.
func (r *Report) Benchstat(out io.Writer) error {
	w := bufio.NewWriter(out)
	m := r.Machine
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: slabfs/cmd/slabfs/internal/bench\ncpu: %s\nkernel: %s\ngo: %s\n", m.OS, m.Arch, m.CPU, m.Kernel, m.Go)
	samples := r.calm()
	for _, row := range r.rows() {
		title := strings.ToUpper(row.workload.name[:1]) + row.workload.name[1:]
		if row.axis != nil {
			title += fmt.Sprintf("/%s=%d", row.axis.name, row.at)
		}
		for _, name := range r.Allocators {
			for _, s := range samples {
				if s.Row != row.name() || s.Allocator != name {
					continue
				}
				fmt.Fprintf(w, "Benchmark%s/alloc=%s-%d %d", title, name, m.CPUs, max(s.N, 1))
				for i, unit := range row.units {
					fmt.Fprintf(w, " %.5g %s", s.Values[i], unit.name)
				}
				fmt.Fprintln(w)
			}
		}
	}
	return w.Flush()
}

// maxDisagree is how far pair may be from plain, the same loop as a Go
// benchmark.
const maxDisagree = 0.10

// Disagree returns the allocators whose plain benchmark differs too much from
// pair, with the difference as a fraction of pair. It is NaN if either has no
// calm sample.
func (r *Report) Disagree() map[string]float64 {
	over := make(map[string]float64)
	for name, d := range r.differences() {
		if !(math.Abs(d) <= maxDisagree) {
			over[name] = d
		}
	}
	return over
}

// differences returns plain/pair - 1, computed from medians, for each allocator
// that ran plain.
func (r *Report) differences() map[string]float64 {
	values := make(map[[2]string][]float64)
	for _, s := range r.calm() {
		key := [2]string{s.Row, s.Allocator}
		values[key] = append(values[key], s.Values[0])
	}
	all := make(map[string]float64)
	for _, s := range r.Samples {
		if s.Row == plain.name {
			all[s.Allocator] = median(values[[2]string{s.Row, s.Allocator}])/median(values[[2]string{row{pair, 64}.name(), s.Allocator}]) - 1
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
