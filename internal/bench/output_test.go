package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
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
	for i, write := range []func(io.Writer) error{r.Table, r.Benchstat, r.JSON, r.SVG, r.HTML} {
		var out strings.Builder
		if err := write(&out); err != nil {
			t.Errorf("form %d: %v", i, err)
		}
		if text := out.String(); text == "" || strings.Contains(text, "NaN") {
			t.Errorf("form %d: %.500q", i, text)
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
