package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Markdown table is for readers who want to know what to expect: the first allocator's figures for the scale,
// then only ratios to them. Between two lines that a browser does not show it can be replaced.

const (
	markdownBegin = "<!-- slabfs bench: begin -->\n"
	markdownEnd   = "<!-- slabfs bench: end -->\n"
)

// words say what a row is, by the name of the workload and that of the unit.
var words = map[string]string{
	"pair":             "an object is allocated and freed",
	"parallel":         "the same on all goroutines at once",
	"parallel scaling": "how many times the pairs of one they do; more is better",
	"typed":            "a zeroed value of a Go type",
	"bytes":            "a slice of 64 bytes",
	"deep":             "10,000 objects, then their frees in that order",
	"deep-shuffled":    "10,000 objects, then their frees in random order",
	"bulk":             "so many by one call, each",
	"xmalloc":          "one half of the goroutines allocates what the other frees",
	"larson":           "a server replaces slices of 8 to 999 bytes",
	"freer RSS/live":   "resident memory, where another goroutine frees",
	"gc":               "runtime.GC beside live objects",
	"gc CPU":           "CPU time of a collection while requests come",
	"gc RSS":           "resident memory",
	"gc p99.9":         "what one of 1000 requests exceeds",
}

// Markdown writes the report as a table of ratios. The native columns of peers are one, which shows the best of them
// in each row; variants of the first allocator have a row of their own below pair.
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
			continue // a single event of a run: its ratio would be chance
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

// ratioOnly is a cell of which only the ratio is told, if there is one.
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

// bestOf is the cell of the best of some allocators, and which one that is.
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

// ReplaceTable returns a document with another table in the place of the one that it holds.
func ReplaceTable(document, table string) (string, error) {
	before, rest, ok1 := strings.Cut(document, markdownBegin)
	_, after, ok2 := strings.Cut(rest, markdownEnd)
	if !ok1 || !ok2 {
		return "", errors.New("it has no table of slabfs bench, between " + strings.TrimSpace(markdownBegin) + " and " + strings.TrimSpace(markdownEnd))
	}
	return before + table + after, nil
}
