package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	r := fixed()
	var out strings.Builder
	if err := r.JSON(&out); err != nil {
		t.Fatal(err)
	}
	in := json.NewDecoder(strings.NewReader(out.String()))
	in.DisallowUnknownFields()
	var d document
	if err := in.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.Machine != r.Machine || !d.Time.Equal(r.Time) || d.Settings.DurationNs != 5e6 || *d.FloorNs != 1.75 || d.Discarded != 14 || len(d.Samples) != len(r.Samples) {
		t.Errorf("the document is %.600s", out.String())
	}
	if s := d.Samples[2]; s.Row != "pair/64" || s.Allocator != "floor" || s.N != 3000 || !slices.Equal(s.Values, []float64{1.7}) || !slices.Equal(s.FloorNs, []float64{1.7, 1.8}) {
		t.Errorf("a sample is %+v", s)
	}
	if len(d.Figures) != 9 { // one for each line of the table
		t.Fatalf("%d figures", len(d.Figures))
	}
	pair, cpu := d.Figures[0], d.Figures[5]
	if pair.Workload != "pair" || pair.Axis != "size" || pair.At != 64 || pair.Unit != "ns/op" || pair.More || len(pair.Cells) != 3 {
		t.Errorf("a figure is %+v", pair)
	}
	if c := pair.Cells[1]; c.Allocator != "sync.Pool" || c.Samples != 6 || math.Abs(c.Median-12.2) > 1e-9 || *c.Ratio != 2 || c.Low > c.Median || c.High < c.Median || math.Abs(c.Worst-14.2) > 1e-9 {
		t.Errorf("a cell is %+v", c)
	}
	if cpu.Cells[1].Ratio != nil {
		t.Errorf("a ratio to 0 is %v", *cpu.Cells[1].Ratio)
	}
}

// elements reads text as XML and returns how often each element is there, and all text.
func elements(t *testing.T, in string) (count map[string]int, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(in))
	count = make(map[string]int)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return count, text
		}
		if err != nil {
			t.Fatalf("not well formed: %v\n%.2000s", err, in)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
			for _, a := range token.Attr {
				if a.Name.Local == "href" || a.Name.Local == "src" {
					t.Errorf("<%s> needs %q", token.Name.Local, a.Value)
				}
			}
		case xml.CharData:
			text += string(token) + "\n"
		}
	}
}

func TestPlots(t *testing.T) {
	r := fixed()
	r.Machine.CPU = `<"Test" & CPU>`
	r.Notes = []string{"a < note"}
	for name, tc := range map[string]struct {
		write func(io.Writer) error
		count map[string]int
		want  []string
	}{
		"svg":  {r.SVG, map[string]int{"svg": 1, "rect": 1 + 3 + 2 + 2 + 2 + 5*3, "path": 24}, nil},
		"html": {r.HTML, map[string]int{"svg": 1, "path": 24, "html": 1, "tr": 1 + 9, "dd": 4 + 3}, []string{"a < note", "restartable sequences"}},
	} {
		var out strings.Builder
		if err := tc.write(&out); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		count, text := elements(t, out.String())
		for element, want := range tc.count {
			if count[element] != want {
				t.Errorf("%s: %d elements <%s>; want %d", name, count[element], element, want)
			}
		}
		for _, want := range append(tc.want, `<"Test" & CPU>, 2 CPUs`, "pair 64", "6.10 ns ± 16%", "12.2 ns ± 16% 2.00x", "less is better", "more is better", "prefers-color-scheme: dark") {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		for _, bad := range []string{"NaN", "Inf", "%!"} {
			if strings.Contains(out.String(), bad) {
				t.Errorf("%s has a %s", name, bad)
			}
		}
	}
}

// A run that was interrupted at once can be printed, in all forms.
func TestNothing(t *testing.T) {
	r := fixed()
	r.Samples = nil
	for i, write := range []func(io.Writer) error{r.Table, r.Benchstat, r.JSON, r.SVG, r.HTML, r.Markdown} {
		var out strings.Builder
		if err := write(&out); err != nil {
			t.Errorf("form %d: %v", i, err)
		}
		if text := out.String(); text == "" || strings.Contains(text, "NaN") {
			t.Errorf("form %d: %.500q", i, text)
		}
	}
}

// withColumns adds columns of peers' loops for a test.
func withColumns(t *testing.T, names ...string) {
	t.Helper()
	before := slices.Clone(columns)
	t.Cleanup(func() { columns = before })
	own := func(int) Native { return new(scripted) }
	for _, name := range names {
		Register(Peer{Name: name, Loops: true, Native: map[string]func(int) Native{"xmalloc": own, "larson": own}})
	}
}

const wantMarkdown = `<!-- slabfs bench: begin -->
|  | slabfs | sync.Pool | floor | best of C |
| --- | --: | --: | --: | --: |
| ~pair 64~ allocate an object and free it | 6.10 ns ± 16% | 2.00x ± 0% | 0.28x ± 16% | 0.50x ± 0% b |
| ~pair 64~ of slabfs-local | 3.05 ns ± 16% | 4.00x ± 0% | 0.56x ± 16% | 1.00x ± 0% b |
| ~plain~ | 6.22 ns ± 16% | 2.45x ± 0% | - | - |
| ~parallel~ the same on all goroutines at once | 3.21 ns ± 16% | 2.11x ± 0% | - | 2.00x ± 0% a |
| ~parallel scaling~ throughput as a multiple of one goroutine's; more is better | 1.90 ± 0% | 0.95x ± 0% | - | 1.05x ± 0% a |
| ~gc~ runtime.GC with live objects | 230 µs ± 0% | 266x ± 0% | 0.98x ± 0% | - |
| ~gc CPU~ CPU time per collection while requests come in | 0.00 ns | 90.0 ms ± 0% | 0.00 ns | - |
| ~gc RSS~ resident memory | 700 MiB ± 0% | 2.00x ± 0% | 0.00x | - |
| ~gc p99.9~ 99.9th percentile of request latency | 40.0 µs ± 0% | 100x ± 0% | 0.75x ± 0% | - |

Test CPU @ 2.80GHz, 2 CPUs, Linux 6.18.1, go1.26.8 linux/amd64, 2026-09-23;
2 processes of 4 rounds, 5ms a cell, 2 goroutines; F 1.75 ns ± 3%; 24 of 105 samples discarded, since F moved

plain against pair: slabfs +2%, sync.Pool +25%
<!-- slabfs bench: end -->
`

// Variants of slabfs have a row, loops of C a column: which of them is best differs from row to row.
func TestMarkdown(t *testing.T) {
	withColumns(t, "a-c", "b-c")
	r := fixed()
	r.Allocators = []string{"slabfs", "slabfs-local", "sync.Pool", "floor", "a-c", "b-c"}
	for _, s := range slices.Clone(r.Samples) {
		add := func(name string, values ...float64) {
			s.Allocator, s.Values = name, values
			r.Samples = append(r.Samples, s)
		}
		switch v := s.Values[0]; {
		case s.Allocator != "slabfs":
		case s.Row == "pair/64":
			add("slabfs-local", v/2)
			add("a-c", v*0.7)
			add("b-c", v/2)
		case s.Row == "parallel":
			add("a-c", v*2, 1.995)
			add("b-c", v*3, 1.5)
		}
	}
	var out strings.Builder
	if err := r.Markdown(&out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), strings.ReplaceAll(wantMarkdown, "~", "`"); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
}

func TestReplaceTable(t *testing.T) {
	table := markdownBegin + "| new |\n" + markdownEnd
	for document, want := range map[string]string{
		"a\n" + markdownBegin + "| old |\n" + markdownEnd + "b\n": "a\n" + table + "b\n",
		markdownBegin + markdownEnd:                               table,
		"":                                                        "",
		"a\n" + markdownBegin + "b\n":                             "",
		markdownEnd + markdownBegin:                               "",
	} {
		got, err := ReplaceTable(document, table)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ReplaceTable(%q) = %q, %v; want %q", document, got, err, want)
		}
	}
}

// README's table has the form that the command in docs/benchmarks.md gives it: its rows and columns, and
// the lines that say where, when and how it was measured. Nobody has written it by hand.
func TestReadme(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	command := regexp.MustCompile(`(?m)^slabfs bench .*--workloads (\S+) --allocators '(\S+)' .*--markdown README.md$`).FindStringSubmatch(read("docs/benchmarks.md"))
	if command == nil {
		t.Fatal("docs/benchmarks.md does not say how to make README's table")
	}
	withColumns(t, "malloc-c", "jemalloc-c", "mimalloc-c", "tcmalloc-c")
	r := fixed()
	r.Samples = nil
	var err1, err2 error
	names, _, _ := Workloads()
	r.Workloads, err1 = Select("workload", names, strings.Split(command[1], ","))
	names, _ = Allocators()
	r.Allocators, err2 = Select("allocator", names, strings.Split(command[2], ","))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, row := range r.rows() {
		for _, name := range r.Allocators {
			if columnOf(name).serves(row.workload) && (name != slabfsLocal || row.workload == pair) {
				r.Samples = append(r.Samples, Sample{Row: row.name(), Allocator: name, Values: slices.Repeat([]float64{1}, len(row.units))})
			}
		}
	}
	var out strings.Builder
	if err := r.Markdown(&out); err != nil {
		t.Fatal(err)
	}
	shape := func(text string) string {
		for _, form := range [][2]string{
			{`\| [0-9.]+( ns| µs| ms| s| MiB|x)?( ± [0-9]+%)?( \w*malloc)? `, "| figure "},
			{`(?m)^\S.*, [0-9]+ CPUs, Linux .*, go\S+ linux/amd64, 20[0-9]{2}-[0-9]{2}-[0-9]{2};$`, "machine and date"},
			{`(?m)^[0-9]+ process(es)? of [0-9]+ rounds?, \S+ a cell, [0-9]+ goroutines(; F .* discarded, since F moved)?$`, "method"},
		} {
			text = regexp.MustCompile(form[0]).ReplaceAllLiteralString(text, form[1])
		}
		return text
	}
	_, readme, _ := strings.Cut(read("README.md"), markdownBegin)
	readme, _, _ = strings.Cut(readme, markdownEnd)
	got, want := shape(readme), shape(strings.TrimSuffix(strings.TrimPrefix(out.String(), markdownBegin), markdownEnd))
	if got != want || !strings.HasSuffix(got, "\nmachine and date\nmethod\n") {
		t.Errorf("README's table has the form\n%s\nwant\n%s", got, want)
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"one", "one"},
		{"one two three", "one two\n  three"},
		{"incomprehensible words", "incomprehensible\n  words"},
		{"is µµµµ as wide", "is µµµµ\n  as wide"},
	} {
		if got := Wrap(tc.text, 2, 10); got != tc.want {
			t.Errorf("Wrap(%q, 2, 10) = %q; want %q", tc.text, got, tc.want)
		}
	}
}

func TestScale(t *testing.T) {
	for top, want := range map[float64]struct {
		step  float64
		ticks int
	}{
		0: {1, 1}, 1: {0.2, 5}, 1.9: {0.5, 4}, 3: {0.5, 6}, 5.3: {1, 6}, 7: {2, 4}, 10: {2, 5}, 61e6: {20e6, 4}, 0.05: {0.01, 5},
	} {
		step, ticks := scale(top)
		if math.Abs(step-want.step) > 1e-9*want.step || ticks != want.ticks {
			t.Errorf("scale(%v) = %v, %d; want %v, %d", top, step, ticks, want.step, want.ticks)
		}
	}
}
