//go:build linux && amd64 && !race && !slabfs_invariants

package rcu

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

var longFlag = flag.Bool("slabfs.long", false, "also break grace periods on purpose, which takes minutes")

// Each mistake is caught, most within a second; the same program without it, with the
// same stalls, is not. The first tag makes readers stall.
//
// Reader and updater must run at the same moment, each on its CPU, which on a busy machine
// they seldom do: so those runs get the highest priority, where they may have it.
func TestFaults(t *testing.T) {
	if !*longFlag {
		t.Skip("without -slabfs.long")
	}
	const stalls = "fault_sequence"
	for _, tc := range []struct {
		tags, engine string
		caught       bool
	}{
		{stalls, "rseq", false},
		{stalls, "atomics", false},
		{"fault_rcu_no_wait", "atomics", true},
		{"fault_rcu_no_wait", "rseq", true},
		{stalls + ",fault_rcu_no_look_back", "atomics", true},
		{stalls + ",fault_rcu_no_fence", "rseq", true},
		{stalls + ",fault_rcu_phase_first", "rseq", true},
	} {
		t.Run(tc.tags+"/"+tc.engine, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "rcu.test")
			if out, err := exec.Command("go", "test", "-c", "-tags="+tc.tags, "-o", path, ".").CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			ctx, cancel := context.WithCancel(t.Context())
			args := []string{path}
			run, updates := "TestTorture|TestRush", 500
			if tc.caught {
				ctx, cancel = context.WithTimeout(t.Context(), 5*time.Minute)
				run, updates = "TestRush", 1e9
				if nice, err := exec.LookPath("nice"); err == nil {
					args = []string{nice, "-n", "-20", path}
				}
			}
			defer cancel()
			args = append(args, "-test.run=^("+run+")$/^"+tc.engine+"$", fmt.Sprint("-slabfs.updates=", updates), "-slabfs.deadline=10m")
			begin := time.Now()
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			took := time.Since(begin).Round(time.Millisecond)
			// A reader that was not waited for: by its element, or by a count that cannot be.
			age := regexp.MustCompile(`sees an element of age \d+`)
			var exit *exec.ExitError
			switch {
			case !tc.caught && err != nil:
				t.Errorf("after %v: %v\n%s", took, err, out)
			case !tc.caught:
				t.Logf("passes, %v", took)
			case ctx.Err() != nil || !errors.As(err, &exit) || !age.Match(out):
				t.Errorf("after %v: %v, and no reader was found\n%.2000s", took, err, out)
			default:
				t.Logf("caught after %v: %s", took, age.Find(out))
			}
		})
	}
}
