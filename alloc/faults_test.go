//go:build linux && amd64 && !race && !slabfs_invariants

package alloc

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

var longFlag = flag.Bool("slabfs.long", false, "also break the sequences on purpose, which takes minutes")

// What a broken program shows: an object that two have, the allocator's own
// accounting, or a crash over a word of an object or beyond the regions.
const violation = `handed out twice|freed twice|free already|could not go back|of another one|no object of|are in use|unexpected fault address|nil pointer dereference`

// Each mistake in the protocol is caught within a minute; the same program
// without it, with the same stalls, is not. The first tag makes sequences stall.
func TestFaults(t *testing.T) {
	if !*longFlag {
		t.Skip("without -slabfs.long")
	}
	const stalls = "fault_sequence"
	for _, tc := range []struct {
		tags string
		run  string
		ops  int
		want string // of the output; empty: passes
	}{
		{stalls, "TestFastLayout|TestBackToBack|TestBytesBackToBack|TestOfflineBackToBack|TestHeir|TestCPUBeyondMask", 2_000_000, ""},
		{stalls + ",fault_mprotect_while_closed", "TestBackToBack|TestBytesBackToBack|TestHeir", 1_000_000, ""},
		{"fault_no_fence", "TestBackToBack", 1e9, violation},
		{stalls + ",fault_no_fence", "TestBackToBack", 1e9, violation},
		{stalls + ",fault_no_fence", "TestOfflineBackToBack", 1e9, violation},
		{stalls + ",fault_header_first", "TestBackToBack", 1e9, violation},
		{stalls + ",fault_header_first", "TestBytesBackToBack", 1e9, violation},
		{stalls + ",fault_header_first", "TestFastLayout", 0, "before it there is no load of the limit"},
		{stalls + ",fault_no_cpu_bound", "TestCPUBeyondMask", 0, "unexpected fault address"},
		{stalls + ",fault_no_cpu_bound", "TestFastLayout", 0, "before it there is no comparison of the CPU with the bound"},
		{stalls + ",fault_late_arming", "TestBackToBack", 1e9, violation},
		{stalls + ",fault_late_arming", "TestBytesBackToBack", 1e9, violation},
		{stalls + ",fault_late_arming", "TestFastLayout", 0, "before it there is no address of its own descriptor"},
		{stalls + ",fault_trusting_abort", "TestBackToBack", 1e9, violation},
		{stalls + ",fault_trusting_abort", "TestBytesBackToBack", 1e9, violation},
		{stalls + ",fault_trusting_abort", "TestFastLayout", 0, "jumps into the section"},
		{stalls + ",fault_area_first", "TestHeir", 1e9, violation},
		{stalls + ",fault_area_first", "TestFastLayout", 0, "before it there is no load of the sheaf's address"},
		{stalls + ",fault_no_second_fence", "TestHeir", 1e9, violation},
		{"fault_early_commit", "TestStorm", 1e9, violation},
		{"fault_early_commit", "TestFastLayout", 0, "a store to the header before the last instruction|from the entry to the commit"},
		{"fault_rcu_no_wait", "TestTypesafeTorture", 1e9, "a reader found the tag"},
		{"fault_rcu_no_wait", "TestTypesafeOutlivesReader", 0, "was overwritten while a reader could look at it"},
		{"fault_rcu_no_barrier", "TestReleaseAfterCallbacks", 0, "released before the callbacks that free its slabs"},
		{stalls + ",fault_slow", "TestFastLayout", 0, "instructions from the entry to the commit; want"},
		{stalls + ",fault_long_section", "TestFastLayout", 0, "the section ends with .*; want the commit"},
		{stalls + ",fault_long_section", "TestBackToBack", 0, "a sequence was not assembled as it was written"}, // New refuses to run it
	} {
		t.Run(tc.tags+"/"+tc.run, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "alloc.test")
			if out, err := exec.Command("go", "test", "-c", "-tags="+tc.tags, "-o", path, ".").CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, path, "-test.run=^("+tc.run+")$", fmt.Sprint("-slabfs.ops=", tc.ops), "-slabfs.deadline=50s")
			if tc.want == "" {
				cmd = exec.Command(path, append(cmd.Args[1:3], "-slabfs.deadline=10m")...) // a slow machine is no mistake
			}
			cmd.Env = append(os.Environ(), childEnv+"=")
			begin := time.Now()
			out, err := cmd.CombinedOutput()
			took := time.Since(begin).Round(time.Millisecond)
			var exit *exec.ExitError
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("after %v: %v\n%s", took, err, out)
			case tc.want == "":
				t.Logf("passes, %v", took)
			case ctx.Err() != nil || !errors.As(err, &exit) || !regexp.MustCompile(tc.want).Match(out):
				t.Errorf("after %v: %v, and nothing said %q\n%.2000s", took, err, tc.want, out)
			default:
				t.Logf("caught after %v: %s", took, regexp.MustCompile(".*("+tc.want+").*").Find(out))
			}
		})
	}
}
