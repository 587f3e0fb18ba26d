package bench

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// The reference hands out what it has, takes back what is its own, and nothing more.
func TestReference(t *testing.T) {
	if !hasReference {
		t.Skip("no assembly for this processor")
	}
	r := newReference()
	r.pairs(1000)
	var objs []uintptr
	for obj := r.Alloc(); obj != 0; obj = r.Alloc() {
		objs = append(objs, obj)
	}
	slices.Sort(objs)
	if len(objs) != 8 || len(slices.Compact(objs)) != 8 || objs[0] != r.arena {
		t.Fatalf("it handed out %#x; want 8 objects", objs)
	}
	r.Free(r.arena - 64)
	r.Free(r.arena + r.pages<<12)
	r.owner[1]++
	r.Free(r.arena + 1<<12)
	if obj := r.Alloc(); obj != 0 {
		t.Errorf("it took %#x, which is not its own", obj)
	}
	for range 20 {
		r.Free(objs[0])
	}
	n := 0
	for r.Alloc() == objs[0] {
		n++
	}
	if n != 16 {
		t.Errorf("it took %d objects; want as many as it has slots", n)
	}
}

func TestLimits(t *testing.T) {
	base := map[string]map[string]float64{"a": {"x": 1, "y": 10}, "b": {"x": 2, "y": 5}}
	for cpu, want := range map[string]map[string]float64{
		"a": {"x": 1.3, "y": 13}, "b": {"x": 2.6, "y": 6.5}, "c": {"x": 5, "y": 25},
	} {
		if got := limitsFor(base, cpu); !maps.EqualFunc(got, want, func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }) {
			t.Errorf("limits of %s: %v; want %v", cpu, got, want)
		}
	}
}

func TestJudge(t *testing.T) {
	base := map[string]map[string]float64{"a": {"x": 1, "y": 10}}
	for name, tc := range map[string]struct {
		cpu   string
		found map[string][]float64
		bad   string // "": passes
		says  string
	}{
		"as it was":         {"a", map[string][]float64{"x": {1.05}, "y": {9}}, "", "its own baseline"},
		"once is enough":    {"a", map[string][]float64{"x": {4, 3, 1.29}, "y": {30, 11, 40}}, "", "1.29    1.30   ok"},
		"slower":            {"a", map[string][]float64{"x": {1.31, 1.5}, "y": {10, 10}}, ": x;", "1.31    1.30   slower"},
		"both":              {"a", map[string][]float64{"x": {2}, "y": {14}}, ": x, y;", "slower"},
		"not there":         {"a", map[string][]float64{"y": {10}}, "", "y"},
		"another processor": {"b", map[string][]float64{"x": {2.4}, "y": {24}}, "", "a wide margin"},
		"slow there too":    {"b", map[string][]float64{"x": {2.6}, "y": {24}}, ": x;", "a wide margin"},
		"no limit":          {"a", map[string][]float64{"z": {1}}, ": z;", "slower"},
	} {
		var out strings.Builder
		err := judge(&out, tc.cpu, base, tc.found)
		if (err != nil) != (tc.bad != "") || err != nil && (!errors.Is(err, ErrSlower) || !strings.Contains(err.Error(), tc.bad)) || !strings.Contains(out.String(), tc.says) {
			t.Errorf("%s: %v\n%s\nwant %q, %q", name, err, out.String(), tc.bad, tc.says)
		}
	}
}

// Every processor in the baseline has every row, and a recorded one is added to them.
func TestBaseline(t *testing.T) {
	base := make(map[string]map[string]float64)
	if err := json.Unmarshal(baselines, &base); err != nil || len(base) == 0 {
		t.Fatalf("baseline.json: %v", err)
	}
	for cpu, rows := range base {
		if len(rows) != len(guarded) {
			t.Errorf("%s has rows %v; want %d", cpu, rows, len(guarded))
		}
		for _, g := range guarded {
			if r := rows[g.name()]; r <= 0 {
				t.Errorf("%s has ratio %v for %q", cpu, r, g.name())
			}
		}
	}
	if !hasReference {
		return
	}
	var out strings.Builder
	if err := (&Guard{Worker: []string{"worker"}, Processes: 2, Record: true}).Run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	recorded := make(map[string]map[string]float64)
	if err := json.Unmarshal([]byte(out.String()), &recorded); err != nil {
		t.Fatal(err)
	}
	for row, ratio := range recorded[cpuKey(readFile("/proc/cpuinfo"))] {
		if delete(base, cpuKey(readFile("/proc/cpuinfo"))); !(ratio > 0) {
			t.Errorf("%s: %v", row, ratio)
		}
	}
	for cpu := range base {
		if !maps.Equal(recorded[cpu], base[cpu]) {
			t.Errorf("%s is %v now; was %v", cpu, recorded[cpu], base[cpu])
		}
	}
	if err := (&Guard{Worker: []string{"-no-such-flag"}, Processes: 1}).Run(t.Context(), io.Discard); err == nil || errors.Is(err, ErrSlower) {
		t.Errorf("a guard whose workers fail says %v", err)
	}
}
