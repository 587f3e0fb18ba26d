package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"slabfs/alloc"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "worker" {
		if err := Work(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// small is a config that takes no time.
func small(workloads ...string) Config {
	allocators, _ := Allocators()
	return Config{
		Workloads: workloads, Allocators: allocators, Sizes: []int{64}, Batches: []int{32}, Goroutines: 2,
		Rounds: 1, Duration: 100 * time.Microsecond, Processes: 1, Objects: 1000,
		Worker: []string{"worker"},
	}
}

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		values                []float64
		low, middle, high, of float64
	}{
		{[]float64{7}, 7, 7, 7, 0},
		{[]float64{3, 1}, 1.5, 2, 2.5, 0.25},
		{[]float64{5, 1, 4, 2, 3}, 2, 3, 4, 1.0 / 3},
		{[]float64{10, 10, 10, 1000}, 10, 10, 257.5, 12.375},
	} {
		got := []float64{quantile(tc.values, 0.25), median(tc.values), quantile(tc.values, 0.75), spread(tc.values)}
		if want := []float64{tc.low, tc.middle, tc.high, tc.of}; !slices.Equal(got, want) {
			t.Errorf("quartiles and spread of %v are %v; want %v", tc.values, got, want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v; want NaN", got)
	}
}

// fixed is a report of numbers that are easy to check. In process 1, a layout
// that is bad for slabfs; in round 2 of each process somebody else was busy.
func fixed() *Report {
	r := &Report{
		Machine: Machine{CPU: "Test CPU @ 2.80GHz", CPUs: 2, Kernel: "6.18.1", Go: "go1.26.8", OS: "linux", Arch: "amd64"},
		Time:    time.Date(2026, 9, 23, 12, 0, 0, 0, time.UTC),
		Config: Config{
			Workloads: []string{"pair", "plain", "parallel", "gc"}, Allocators: []string{"slabfs", "sync.Pool", "floor"},
			Sizes: []int{64}, Batches: []int{32}, Goroutines: 2, Processes: 2, Rounds: 4, Duration: 5 * time.Millisecond, Objects: 1000,
		},
	}
	add := func(process, round int, row, allocator string, n int, values ...float64) {
		s := Sample{process, round, row, allocator, n, values, [2]float64{1.7, 1.8}}
		if round == 2 {
			s.Floor[1] = 3.4
		}
		if row == "gc" {
			s.Floor = [2]float64{}
		}
		r.Samples = append(r.Samples, s)
	}
	for p := range 2 {
		for round := range 4 {
			noise := float64(round) / 10
			ours := 5 + 2*float64(p) + noise
			add(p, round, "pair/64", "slabfs", 1000, ours)
			add(p, round, "pair/64", "sync.Pool", 400, 2*ours)
			add(p, round, "pair/64", "floor", 3000, 1.7)
			add(p, round, "plain", "slabfs", 900, 1.02*ours)
			add(p, round, "plain", "sync.Pool", 350, 2.5*ours)
			add(p, round, "parallel", "slabfs", 2000, ours/1.9, 1.9)
			add(p, round, "parallel", "sync.Pool", 800, 2*ours/1.8, 1.8)
		}
	}
	for round := range 3 {
		add(0, round, "gc", "slabfs", 3, 230_000, 0, 50_000, 700, 40_000)
		add(0, round, "gc", "sync.Pool", 3, 61_234_567, 90e6, 60_000, 1400, 4e6)
		add(0, round, "gc", "floor", 3, 225_000, 0, 50_000, 0, 30_000)
	}
	return r
}

const wantTable = `Test CPU @ 2.80GHz, 2 CPUs, Linux 6.18.1, go1.26.8 linux/amd64, 2026-09-23
2 processes of 4 rounds, 5ms a cell, 2 goroutines; F 1.75 ns ± 3%; 14 of 65 samples discarded, since F moved

                           slabfs             sync.Pool                floor
pair 64             6.10 ns ± 16%   12.2 ns ± 16% 2.00x   1.70 ns ± 0% 0.28x
  worst process    7.10 ns (1.16)        14.2 ns (1.16)       1.70 ns (1.00)
plain               6.22 ns ± 16%   15.2 ns ± 16% 2.45x                    -
  worst process    7.24 ns (1.16)        17.8 ns (1.16)
parallel            3.21 ns ± 16%   6.78 ns ± 16% 2.11x                    -
  worst process    3.74 ns (1.16)        7.89 ns (1.16)
parallel scaling        1.90 ± 0%       1.80 ± 0% 0.95x                    -
  worst process       1.90 (1.00)           1.80 (1.00)
gc                    230 µs ± 0%     61.2 ms ± 0% 266x    225 µs ± 0% 0.98x
gc CPU                    0.00 ns          90.0 ms ± 0%              0.00 ns
gc pause             50.0 µs ± 0%    60.0 µs ± 0% 1.20x   50.0 µs ± 0% 1.00x
gc RSS               700 MiB ± 0%   1400 MiB ± 0% 2.00x       0.00 MiB 0.00x
gc p99.9             40.0 µs ± 0%     4.00 ms ± 0% 100x   30.0 µs ± 0% 0.75x
`

func TestTable(t *testing.T) {
	r := fixed()
	r.Notes = []string{"a note"}
	var out strings.Builder
	if err := r.Table(&out); err != nil {
		t.Fatal(err)
	}
	table, legend, _ := strings.Cut(out.String(), "\n\nmedian ")
	if table+"\n" != wantTable {
		t.Errorf("the table is\n%s\nwant\n%s", table, wantTable)
	}
	for _, want := range []string{"x: ratio to slabfs; ", "\npair 64: objects of ", "\npair ", "\ngc ", "\na note\n", "plain against pair: slabfs +2%, sync.Pool +25%\n"} {
		if !strings.Contains(legend, want) {
			t.Errorf("below the table stands\n%s\nwithout %q", legend, want)
		}
	}
	if got := r.Disagree(); len(got) != 1 || math.Abs(got["sync.Pool"]-0.25) > 1e-9 {
		t.Errorf("Disagree() = %v; want sync.Pool by 0.25", got)
	}
}

// Where F moved around all samples of a cell, that is not the same as none.
func TestDisturbed(t *testing.T) {
	r := fixed()
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Row == "pair/64" && s.Allocator == "sync.Pool" {
			s.Floor[0] = 9
		}
	}
	var table, markdown strings.Builder
	if err := errors.Join(r.Table(&table), r.Markdown(&markdown)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(table.String()[strings.Index(table.String(), "\npair 64"):]); got[5] != "16%" || got[6] != "disturbed" || got[7] != "1.70" {
		t.Errorf("the row is %q", got[:10])
	}
	if want := "| 6.10 ns ± 16% | disturbed | 0.28x"; !strings.Contains(markdown.String(), want) {
		t.Errorf("no %q in\n%s", want, markdown.String())
	}
}

// More columns than fit side by side go below, with the first again, but without rows that
// none of them has.
func TestWideTable(t *testing.T) {
	r := fixed()
	r.Allocators = []string{"slabfs", "new", "chan", "mcache", "modernc", "sync.Pool", "floor"}
	r.Samples = slices.DeleteFunc(r.Samples, func(s Sample) bool { return s.Row == "plain" && s.Allocator == "sync.Pool" })
	var out strings.Builder
	if err := r.Table(&out); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(out.String(), "\n\n")
	if len(parts) != 4 || !strings.HasSuffix(strings.SplitN(parts[1], "\n", 2)[0], " mcache") || !strings.Contains(parts[1], "\nplain ") ||
		!strings.HasSuffix(strings.SplitN(parts[2], "\n", 2)[0], " floor") || !strings.Contains(parts[2], "2.00x") || strings.Contains(parts[2], "\nplain ") {
		t.Errorf("the table is\n%s", out.String())
	}
}

func TestBenchstat(t *testing.T) {
	var out strings.Builder
	if err := fixed().Benchstat(&out); err != nil {
		t.Fatal(err)
	}
	head := "goos: linux\ngoarch: amd64\npkg: slabfs/cmd/slabfs/internal/bench\ncpu: Test CPU @ 2.80GHz\nkernel: 6.18.1\ngo: go1.26.8\n" +
		"BenchmarkPair/size=64/alloc=slabfs-2 1000 5 ns/op\nBenchmarkPair/size=64/alloc=slabfs-2 1000 5.1 ns/op\n" +
		"BenchmarkPair/size=64/alloc=slabfs-2 1000 5.3 ns/op\nBenchmarkPair/size=64/alloc=slabfs-2 1000 7 ns/op\n"
	if !strings.HasPrefix(out.String(), head) {
		t.Errorf("the text begins\n%.400s\nwant\n%s", out.String(), head)
	}
	for _, line := range []string{
		"\nBenchmarkParallel/alloc=sync.Pool-2 800 5.5556 ns/op 1.8 scaling\n",
		"\nBenchmarkGc/alloc=slabfs-2 3 2.3e+05 ns/op 0 GC-ns 50000 pause-ns 700 RSS-MiB 40000 p99.9-ns\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("the text is\n%s\nwithout %q", out.String(), line)
		}
	}
	if got, want := strings.Count(out.String(), "\nBenchmark"), 51; got != want {
		t.Errorf("%d lines; want %d, one for each calm sample", got, want)
	}
}

func TestFormats(t *testing.T) {
	for v, want := range map[float64]string{
		0.4: "0.40 ns", 9.994: "9.99 ns", 9.996: "10.0 ns", 99.96: "100 ns", 999.4: "999 ns", 999.6: "1.00 µs",
		1e6: "1.00 ms", 12_345_678: "12.3 ms", 2e9: "2.00 s",
	} {
		if got := nanoseconds(v); got != want {
			t.Errorf("nanoseconds(%v) = %q; want %q", v, got, want)
		}
	}
}

// Cells take turns, and a row is measured until each cell has enough samples
// before and behind which F was calm.
func TestInterleaved(t *testing.T) {
	var order []string
	var ctx context.Context
	var cancel context.CancelFunc
	cellsOf := func(name string, allocators ...string) []*cell {
		w := &workload{name: name, units: []unit{nsPerOp}}
		var cells []*cell
		for _, a := range allocators {
			cells = append(cells, &cell{row: row{w, 0}, allocator: a, measure: func(time.Duration) ([]float64, error) {
				order = append(order, name+a)
				if strings.Contains(a, "!") && len(order) > 8 {
					cancel()
				}
				return []float64{1}, nil
			}})
		}
		return cells
	}
	for _, tc := range []struct {
		name     string
		rows     [][]*cell
		floor    func(call int) float64
		want     string // order, without the blocks that warm up
		calm     int
		patience int
	}{
		{"calm", [][]*cell{cellsOf("x", "A", "B"), cellsOf("y", "A", "C")}, func(int) float64 { return 2 }, "xA xB yA yC xA xB yA yC", 8, 3},
		{"moved once", [][]*cell{cellsOf("x", "A", "B")}, func(call int) float64 {
			if call == 6 { // before B of the first block that counts
				return 2.4
			}
			return 2
		}, "xA xB xA xB xA xB", 5, 3},
		{"never calm", [][]*cell{cellsOf("x", "A", "B")}, func(call int) float64 { return float64(2 + call%2) }, "xA xB xA xB xA xB xA xB", 0, 2},
		{"interrupted", [][]*cell{cellsOf("x", "A", "B!", "C"), cellsOf("y", "A", "B")}, func(int) float64 { return 2 }, "xA xB! xC yA yB xA xB!", 7, 3},
	} {
		order = nil
		ctx, cancel = context.WithCancel(context.Background())
		calls := 0
		r := runner{ctx: ctx, report: &Report{}, show: func(string) {}, guard: func() float64 {
			calls++
			return tc.floor(calls - 1)
		}}
		if err := r.run(tc.rows, plan{rounds: 2, patience: tc.patience}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		cancel()
		warm := 0
		for _, cells := range tc.rows {
			warm += len(cells)
		}
		if got := strings.Join(order[warm:], " "); got != tc.want || len(r.report.calm()) != tc.calm {
			t.Errorf("%s: measured %s, %d of them calm; want %s, %d", tc.name, got, len(r.report.calm()), tc.want, tc.calm)
		}
	}
}

// What a cell needs is made before it and gone behind it, also when it fails. What lasts long
// has no F around it.
func TestPrepare(t *testing.T) {
	var order []string
	var fail error
	c := &cell{
		row: row{&workload{name: "x"}, 0},
		measure: func(time.Duration) ([]float64, error) {
			order = append(order, "measure")
			return nil, nil
		},
		prepare: func() error {
			order = append(order, "prepare")
			return fail
		},
		clean: func() error {
			order = append(order, "clean")
			return nil
		},
	}
	r := runner{ctx: context.Background(), report: &Report{}, show: func(string) {}, guard: func() float64 {
		order = append(order, "F")
		return 1
	}}
	if err := r.block([]*cell{c}, 0); err != nil {
		t.Error(err)
	}
	r.plan.once = true
	if err := r.block([]*cell{c}, 0); err != nil {
		t.Error(err)
	}
	fail = alloc.ErrNoMemory
	if err := r.block([]*cell{c}, 1); !errors.Is(err, fail) {
		t.Errorf("block = %v; want %v", err, fail)
	}
	if got, want := strings.Join(order, " "), "prepare F measure F clean prepare measure clean prepare clean"; got != want {
		t.Errorf("order: %s; want %s", got, want)
	}
}

// Every cell of every workload runs, counts its operations, and frees what it
// allocated: otherwise bed.clear fails.
func TestCells(t *testing.T) {
	names, _, _ := Workloads()
	c := small(names...)
	c.Sizes = []int{8, 8192}
	c.Batches = []int{1, 250}
	b, err := newBed(&c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	report := newReport(c)
	r := runner{ctx: context.Background(), report: report, duration: c.Duration, show: func(string) {}, guard: func() float64 { return 1 }}
	ours := []string{slabfsRSeq, slabfsLock}
	only := map[string][]string{
		"typed": append(ours, "sync.Pool", "new"), "retune": ours, "gc-pointers": append(ours, floorName),
	}
	for _, w := range report.rows() {
		cells, err := b.cellsOf(w, &c)
		if err != nil {
			t.Fatal(err)
		}
		r.plan = w.phase.plan(1)
		if err := errors.Join(r.block(cells, 0), b.clear()); err != nil {
			t.Fatal(err)
		}
		for _, name := range report.Allocators {
			col := columnOf(name)
			want := name == floorName && w.floor != nil || name != floorName && col.serves(w.workload)
			if list, ok := only[w.workload.name]; ok || w.workload.name == "gc" && name == slabfsLocal {
				want = slices.Contains(list, name)
			}
			var got []Sample
			for _, s := range report.Samples {
				if s.Row == w.name() && s.Allocator == name {
					got = append(got, s)
				}
			}
			if (len(got) > 0) != want {
				t.Errorf("%s on %s: %d samples; want some: %v", w.name(), name, len(got), want)
			}
			for _, s := range got {
				bad := slices.ContainsFunc(s.Values, func(v float64) bool { return !(v >= 0) || math.IsInf(v, 0) })
				guarded := w.phase == light || w.phase == long
				if len(s.Values) != len(w.units) || bad || w.units[0] == nsPerOp && s.Values[0] == 0 || s.N < 1 || (s.Floor[0] > 0 && s.Floor[1] > 0) != guarded {
					t.Errorf("%s on %s: %+v", w.name(), name, s)
				}
			}
		}
	}
	for _, note := range b.notes {
		if !strings.Contains(note, "no column") || slices.Contains(report.Allocators, slabfsRSeq) {
			t.Errorf("note: %s", note) // also if nothing could be mounted
		}
	}
}

func TestProcesses(t *testing.T) {
	c := small("pair", "gc")
	c.Allocators = []string{slabfsLock, floorName}
	c.Processes = 2
	report, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, s := range report.Samples {
		seen[fmt.Sprint(s.Row, s.Process)] = true
	}
	if len(seen) != 3 || !seen["pair/640"] || !seen["pair/641"] || !seen["gc0"] {
		t.Errorf("measured %v; want pair in both processes, gc in the first", seen)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	report, err = Run(ctx, c)
	if err != nil || len(report.Samples) > 0 || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.HasPrefix(n, "interrupted") }) {
		t.Errorf("Run in a context that has ended = %+v, %v", report, err)
	}
}

// What a worker says about its failure reaches the user.
func TestWork(t *testing.T) {
	var out bytes.Buffer
	if err := Work(context.Background(), strings.NewReader("{"), &out); err == nil {
		t.Error("Work carries out half an order")
	}
	if err := Work(context.Background(), strings.NewReader(`{"Config":{"Workloads":["gc"],"Allocators":["slabfs-lock"],"Rounds":1,"Duration":1,"Processes":1,"Objects":1000,"Goroutines":2}}`), &out); err != nil {
		t.Error(err)
	}
	if text := out.String(); !strings.Contains(text, `"Row":"gc"`) || strings.Contains(text, `"Error"`) {
		t.Errorf("the answer is %.300s", text)
	}
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Workloads = nil }, "no workload; name some of pair, "},
		{func(c *Config) { c.Workloads = []string{"pear"} }, `unknown workload "pear"; want some of pair, `},
		{func(c *Config) { c.Workloads = []string{"pair", "pair"} }, `workload "pair" is named twice`},
		{func(c *Config) { c.Allocators = []string{"malloc"} }, `unknown allocator "malloc"; want some of slabfs, `},
		{func(c *Config) { c.Rounds = 0 }, "0 rounds"},
		{func(c *Config) { c.Processes = -1 }, "-1 processes"},
		{func(c *Config) { c.Duration = 0 }, "0s a cell"},
		{func(c *Config) { c.Objects = 0 }, "0 objects"},
		{func(c *Config) { c.Goroutines = 0 }, "0 goroutines"},
		{func(c *Config) { c.Sizes = nil }, "no size; want powers of two from 8 to 16384"},
		{func(c *Config) { c.Sizes = []int{64, 100} }, "size 100; want powers of two from 8 to 16384"},
		{func(c *Config) { c.Sizes = []int{8, 16, 8} }, "size 8 is named twice"},
		{func(c *Config) { c.Batches = []int{0} }, "batch 0; want 1 to 10000"},
	} {
		c := small("pair")
		tc.change(&c)
		if got := fmt.Sprint(c.Check()); !strings.Contains(got, tc.want) || (c.Check() == nil) != (tc.want == "") {
			t.Errorf("Check() = %s; want %q", got, tc.want)
		}
	}
}

func TestCPUModel(t *testing.T) {
	for text, want := range map[string]string{
		"processor\t: 0\nmodel name\t: Some CPU: fast\nmodel name\t: other\n": "Some CPU: fast",
		"processor: 0\nBogoMIPS: 50\n":                                        "",
		"":                                                                    "",
	} {
		if got := cpuModel(text); got != want {
			t.Errorf("cpuModel(%q) = %q; want %q", text, got, want)
		}
	}
	if m := ThisMachine(); m.CPUs < 1 || m.Go == "" || m.CPU == "" || m.Kernel == "" {
		t.Errorf("ThisMachine() = %+v", m)
	}
}
