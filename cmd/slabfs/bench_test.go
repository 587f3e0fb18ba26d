package main

import (
	"errors"
	"strings"
	"testing"

	"slabfs/internal/bench"
)

func TestBenchCommand(t *testing.T) {
	quick := []string{"bench", "--processes=1", "--rounds=1", "--duration=100us", "--allocators=sync.Pool,floor"}
	for _, tc := range []struct {
		args []string
		want string // in the output, or in the error
		err  bool
	}{
		{append(quick, "--workloads=pair,two"), "two scaling", false},
		{append(quick, "--workloads=pair", "--benchstat"), "\nBenchmarkPair/alloc=sync.Pool-", false},
		{append(quick, "--workloads", "deep", "--check"), "\nplain  ", false},
		{[]string{"bench", "--help"}, "gc-pointers  ", false},
		{[]string{"bench", "--workloads", "pear"}, `unknown workload "pear"; want some of pair, `, true},
		{[]string{"bench", "--allocators", "new,malloc"}, `unknown allocator "malloc"`, true},
		{[]string{"bench", "--rounds", "0"}, "0 rounds", true},
		{[]string{"bench", "--rounds", "many"}, "--rounds", true},
		{[]string{"bench", "pair"}, `"pair"`, true},
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
			text = err.Error()
		}
		var s *statusError
		if err != nil && errors.As(err, &s) && (tc.err || s.status != statusCheck) { // a busy machine may fail --check
			t.Errorf("slabfs %q ends with status %d: %v", tc.args, s.status, err)
		}
		if !strings.Contains(text, tc.want) {
			t.Errorf("slabfs %q says %q, %v; want %q", tc.args, text, err, tc.want)
		}
	}
}

func TestAgreement(t *testing.T) {
	r := &bench.Report{Allocators: []string{"new", "sync.Pool"}}
	for name, plain := range map[string]float64{"new": 40, "sync.Pool": 8} {
		for workload, v := range map[string]float64{"pair": 10, "plain": plain} {
			r.Samples = append(r.Samples, bench.Sample{Workload: workload, Allocator: name, Values: []float64{v}})
		}
	}
	var s *statusError
	if err := agreement(r); !errors.As(err, &s) || s.status != statusCheck || !strings.Contains(err.Error(), "new by +300 %, sync.Pool by -20 %") {
		t.Errorf("agreement = %v; want status %d and both allocators", err, statusCheck)
	}
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Allocator == "new" && s.Workload == "pair" {
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
