package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Markdown table tells readers what to expect: the figures of the first
// allocator for the scale, then only ratios to them. The table stands between
// two comments, so that a later run can replace it.

const (
	markdownBegin = "<!-- slabfs bench: begin -->\n"
	markdownEnd   = "<!-- slabfs bench: end -->\n"
)

// words describe a row, by the names of its workload and unit.
var words = map[string]string{
	"pair":             "allocate an object and free it",
	"parallel":         "the same on all goroutines at once",
	"parallel scaling": "throughput as a multiple of one goroutine's; more is better",
	"typed":            "allocate and free a zeroed value of a Go type",
	"bytes":            "allocate and free a slice of 64 bytes",
	"deep":             "allocate 10,000 objects, then free them in the same order",
	"deep-shuffled":    "allocate 10,000 objects, then free them in random order",
	"bulk":             "allocate a batch in one call and free it in one; time per object",
	"xmalloc":          "half of the goroutines allocate, the others free",
	"larson":           "a server replaces slices of 8 to 999 bytes",
	"freer RSS/live":   "resident memory over live bytes, when another goroutine frees",
	"gc":               "runtime.GC with live objects",
	"gc CPU":           "CPU time per collection while requests come in",
	"gc RSS":           "resident memory",
	"gc p99.9":         "99.9th percentile of request latency",
}

// Markdown writes the report as a table of ratios. All native columns of peers
// become one, which shows the best of them in each row. Variants of the first
// allocator have rows of their own below pair.
func (r *Report) Markdown(out io.Writer) error {
	w := bufio.NewWriter(out)
	first := r.Allocators[0]
	head := []string{"", first}
	var others, native, variants []string
	for _, name := range r.Allocators[1:] {
		switch {
		case strings.HasPrefix(name, first+"-"):
			variants = append(variants, name)
		case columnOf(name).loops:
			native = append(native, name)
		default:
			others, head = append(others, name), append(head, name)
		}
	}
	if len(native) > 0 {
		head = append(head, "best of C")
	}
	fmt.Fprint(w, markdownBegin)
	markdownRow(w, head)
	markdownRow(w, append([]string{"---"}, slices.Repeat([]string{"--:"}, len(head)-1)...))
	samples := r.calm()
	for _, f := range r.figures() {
		if f.unit == longestPause {
			continue // a single event in a run: its ratio is chance
		}
		bases := []string{first}
		if f.workload == pair {
			bases = append(bases, variants...)
		}
		for _, base := range bases {
			of := func(name string) summary {
				return r.summary(samples, f.row, slices.Index(f.units, f.unit), name, base)
			}
			label := "`" + f.label() + "`"
			if base != first {
				label = "`" + f.label() + "` of " + base
			} else if text, ok := words[f.workload.name+f.unit.row]; ok {
				label += " " + text
			}
			line := []string{label, of(base).figure(f.unit, false)}
			for _, name := range others {
				line = append(line, of(name).ratioOnly(f.unit))
			}
			if len(native) > 0 {
				line = append(line, bestOf(f.unit, native, of))
			}
			markdownRow(w, line)
		}
	}
	fmt.Fprintf(w, "\n%s;\n%s\n", r.machine(), r.method())
	for _, line := range r.remarks() {
		fmt.Fprintf(w, "\n%s\n", line)
	}
	fmt.Fprint(w, markdownEnd)
	return w.Flush()
}

func markdownRow(w io.Writer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// ratioOnly formats only the ratio, if there is one.
func (s summary) ratioOnly(u unit) string {
	if s.n == 0 || !(s.ratio >= 0) {
		return s.figure(u, false)
	}
	text := digits(s.ratio) + "x"
	if s.ratio > 0 {
		text += " ± " + percent(s.ratioSpread)
	}
	return text
}

// bestOf formats the best of some allocators, with its name.
func bestOf(u unit, names []string, of func(name string) summary) string {
	var best summary
	var who string
	for _, name := range names {
		s := of(name)
		if s.n > 0 && (best.n == 0 || (s.median < best.median) != u.more) {
			best, who = s, name
		}
	}
	if best.n == 0 {
		return "-"
	}
	return best.ratioOnly(u) + " " + strings.TrimSuffix(who, "-c")
}

// ReplaceTable returns a document with its table replaced.
func ReplaceTable(document, table string) (string, error) {
	before, rest, ok1 := strings.Cut(document, markdownBegin)
	_, after, ok2 := strings.Cut(rest, markdownEnd)
	if !ok1 || !ok2 {
		return "", errors.New("it has no table of slabfs bench, between " + strings.TrimSpace(markdownBegin) + " and " + strings.TrimSpace(markdownEnd))
	}
	return before + table + after, nil
}
