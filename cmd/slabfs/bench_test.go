package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slabfs/cmd/slabfs/internal/bench"
)

func TestBenchCommand(t *testing.T) {
	quick := []string{"bench", "--processes=1", "--rounds=1", "--duration=100us", "--allocators=sync.Pool,floor"}
	for _, tc := range []struct {
		args []string
		want string // in the output, or in the error
		err  bool
	}{
		{append(quick, "--workloads=pair,parallel"), "parallel scaling", false},
		{append(quick, "--workloads=pair", "--benchstat"), "\npkg: slabfs/cmd/slabfs/internal/bench\n", false},
		{append(quick, "--workloads", "deep", "--check"), "\nplain  ", false},
		{append(quick, "--workloads", "pair", "--sizes", "8", "--check"), "\npair 64 ", false},
		{append(quick, "--workloads", "pair,deep*", "--sizes=8", "--sizes=128,1K"), "\ndeep-reverse 1024 ", false},
		{append(quick, "--workloads", "bulk", "--batches=1,250"), "\nbulk 250 ", false},
		{append(quick, "--workloads", "parallel", "--goroutines=3"), " 3 goroutines", false},
		{append(quick, "--workloads", "pair", "--json=-"), `"allocator": "sync.Pool"`, false},
		{append(quick, "--workloads", "pair", "--svg=-"), "<svg ", false},
		{append(quick, "--workloads", "pair", "--html=-"), "<!DOCTYPE html>", false},
		{append(quick, "--workloads", "pair", "--markdown=-"), "\n| `pair 64` ", false},
		{[]string{"bench", "--help"}, "gc-pointers  ", false},
		{[]string{"bench", "--markdown", "bench_test.go"}, `replace the table in "bench_test.go": it has no table`, true},
		{[]string{"bench", "guard", "--processes", "0"}, "0 processes; want 1 or more", true},
		{[]string{"bench", "--json", "-", "--benchstat"}, "only one of --benchstat", true},
		{[]string{"bench", "--svg", filepath.Join(t.TempDir(), "none", "x.svg")}, "none/x.svg: no such file", true},
		{[]string{"bench", "--sizes", "48"}, "size 48; want powers of two", true},
		{[]string{"bench", "--sizes", "small"}, "--sizes", true},
		{[]string{"bench", "--batches", "0"}, "batch 0; want 1 to", true},
		{[]string{"bench", "--goroutines", "0"}, "0 goroutines", true},
		{[]string{"bench", "--workloads", "pear"}, `unknown workload "pear"; want all, or some of pair, `, true},
		{[]string{"bench", "--allocators", "new,malloc"}, `unknown allocator "malloc"`, true},
		{[]string{"bench", "--rounds", "0"}, "0 rounds", true},
		{[]string{"bench", "--rounds", "many"}, "--rounds", true},
		{[]string{"bench", "pair"}, `"pair"`, true},
		{[]string{"bench", "--peers", "/none"}, `ask "/none" for its peers: `, true},
		{[]string{"bench", "--peers", "/bin/true"}, `"/bin/true" does not bring peers: `, true},
		{[]string{"bench", "--peers", "/bin/false"}, `ask "/bin/false" for its peers: exit status 1`, true},
	} {
		root := newRootCommand()
		var out strings.Builder
		root.SetOut(&out)
		root.SetArgs(tc.args)
		err := root.Execute()
		text := out.String()
		if tc.err {
			if err == nil {
				t.Errorf("slabfs %q succeeds", tc.args)
				continue
			}
			if text = err.Error(); strings.Contains(text, "\n") {
				t.Errorf("slabfs %q says more than a line: %q", tc.args, text)
			}
		}
		var s *statusError
		refused := strings.HasSuffix(tc.want, "no such file") // by the system
		if isStatus := err != nil && errors.As(err, &s); refused && (!isStatus || s.status != statusMount) {
			t.Errorf("slabfs %q: %v; want status %d", tc.args, err, statusMount)
		} else if isStatus && !refused && (tc.err || s.status != statusCheck) { // a busy machine may fail --check
			t.Errorf("slabfs %q ends with status %d: %v", tc.args, s.status, err)
		}
		if !strings.Contains(text, tc.want) {
			t.Errorf("slabfs %q says %q, %v; want %q", tc.args, text, err, tc.want)
		}
	}
}

// Forms go to files, the table beside them, and what a file held stays if nothing is measured.
func TestBenchFiles(t *testing.T) {
	dir := t.TempDir()
	args := []string{"bench", "--processes=1", "--rounds=1", "--duration=100us", "--allocators=sync.Pool,floor", "--workloads=pair"}
	wants := map[string]string{"json": `"figures"`, "svg": "</svg>", "html": "</html>"}
	for form := range wants {
		file := filepath.Join(dir, form)
		if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--"+form, file)
	}
	root := newRootCommand()
	root.SetOut(io.Discard)
	root.SetArgs(append(args, "--rounds=0"))
	if err := root.Execute(); err == nil {
		t.Error("slabfs bench --rounds=0 succeeds")
	}
	for form := range wants {
		if got, err := os.ReadFile(filepath.Join(dir, form)); string(got) != "old" {
			t.Errorf("%s holds %q, %v; want what it held", form, got, err)
		}
	}
	root = newRootCommand()
	var out strings.Builder
	root.SetOut(&out)
	root.SetArgs(args)
	if err := root.Execute(); err != nil || !strings.Contains(out.String(), "\npair 64 ") {
		t.Errorf("slabfs %q prints %q, %v", args, out.String(), err)
	}
	for form, want := range wants {
		if got, err := os.ReadFile(filepath.Join(dir, form)); !strings.Contains(string(got), want) || strings.HasPrefix(string(got), "old") {
			t.Errorf("%s holds %.300q, %v; want %q", form, got, err, want)
		}
	}
}

// A table takes the place of the one that a file holds, and is all of a new one.
func TestBenchMarkdown(t *testing.T) {
	dir := t.TempDir()
	run := func(file string) string {
		root := newRootCommand()
		root.SetOut(io.Discard)
		root.SetArgs([]string{"bench", "--processes=1", "--rounds=1", "--duration=100us", "--allocators=sync.Pool,floor", "--workloads=pair", "--markdown", file})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	fresh := run(filepath.Join(dir, "new.md"))
	if !strings.Contains(fresh, "\n| `pair 64` ") || !strings.HasPrefix(fresh, "<!--") {
		t.Errorf("a new file holds %q", fresh)
	}
	page := filepath.Join(dir, "page.md")
	if err := os.WriteFile(page, []byte("# before\n"+strings.ReplaceAll(fresh, "pair", "OLD")+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := run(page); !strings.HasPrefix(text, "# before\n<!--") || !strings.HasSuffix(text, "-->\nafter\n") || strings.Contains(text, "OLD") || !strings.Contains(text, "\n| `pair 64` ") {
		t.Errorf("the page holds %q", text)
	}
}

func TestAgreement(t *testing.T) {
	r := &bench.Report{Config: bench.Config{Allocators: []string{"new", "sync.Pool"}}}
	for name, plain := range map[string]float64{"new": 40, "sync.Pool": 8} {
		for row, v := range map[string]float64{"pair/64": 10, "plain": plain} {
			r.Samples = append(r.Samples, bench.Sample{Row: row, Allocator: name, Values: []float64{v}})
		}
	}
	var s *statusError
	if err := agreement(r); !errors.As(err, &s) || s.status != statusCheck || !strings.Contains(err.Error(), "new by +300 %, sync.Pool by -20 %") {
		t.Errorf("agreement = %v; want status %d and both allocators", err, statusCheck)
	}
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Allocator == "new" && s.Row == "pair/64" {
			s.Floor[0] = 9 // disturbed
		}
	}
	if err := agreement(r); err == nil || !strings.Contains(err.Error(), "new was never measured undisturbed") {
		t.Errorf("agreement without an undisturbed pair = %v", err)
	}
	r.Samples = nil
	if err := agreement(r); err != nil {
		t.Errorf("agreement of nothing = %v", err)
	}
}
