package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A goroutine is told by functions that are in its stack.
type goroutine []string

// Who waits in the deadlock of three parties, besides the destroy.
var (
	storer  = goroutine{"sysfs.(*File).Store(", "cpu.(*Hotplug).RLockContext("}
	plugger = goroutine{"cpu.(*Hotplug).Lock("}
)

// Each protection of the destroy path can be broken by a build tag. Stress must
// find each, and say what it found. The model in internal/stress, where the
// parties always meet, must go wrong in the same way.
func TestFaults(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, tc := range []struct {
		tag   string
		flags []string
		want  string // on standard error
		waits []goroutine
	}{
		{"unlink_under_locks", nil, "has not ended after 10.", []goroutine{
			{"alloc.(*Allocator).destroy", "sysfs.(*Kobject).Remove(", "sync.(*Cond).Wait("}, storer, plugger,
		}},
		{"notify_under_locks", []string{"--deadline=4s"}, "has not ended after 4.", []goroutine{
			{"alloc.(*Allocator).destroy", "DeleteNotify(", "unix.writev("}, storer, plugger,
		}},
		{"publish_under_slab_mutex", []string{"--deadline=4s"}, "has not ended after 4.", []goroutine{
			{"alloc.(*Allocator).NewCache(", "stress.(*census).Publish(", "alloc.(*Allocator).Caches(", "lockdep.(*Mutex).Lock("},
		}},
		{"no_drain", nil, "a released cache was in use", nil},
		{"free_before_drain", nil, "a released cache was in use", nil},
	} {
		t.Run(tc.tag, func(t *testing.T) {
			t.Parallel()
			faulty := buildFault(t, tc.tag)
			status, out, errs := root.stressOf(t, faulty, append(tc.flags, "--duration=50s")...)
			if status != 5 || !strings.Contains(errs, tc.want) || !strings.Contains(errs, "; again: slabfs stress --seed 1 ") {
				t.Errorf("status %d; want 5, and on standard error %q and how to do it again:\n%s\n%.3000s", status, tc.want, out, errs)
			}
			stacks := strings.Split(errs, "\n\n")
			for _, g := range tc.waits {
				if !slices.ContainsFunc(stacks, g.has) {
					t.Errorf("no goroutine waits in %q:\n%s", g, errs)
				}
			}
			model := exec.Command("go", "test", "-count=1", "-tags=fault_"+tc.tag, "-run=^(TestThreeParties|TestPublish|TestOrder)$", "slabfs/internal/stress")
			model.Env = append(os.Environ(), unchecked)
			if out, err := model.CombinedOutput(); err != nil {
				t.Errorf("the model, which always meets the fault: %v\n%s", err, out)
			}
		})
	}
	// Without the third party, the wrong order looks right, but not to lockdep.
	t.Run("without hotplug", func(t *testing.T) {
		t.Parallel()
		status, out, errs := root.stressOf(t, buildFault(t, "unlink_under_locks"), "--duration=8s", "--hotplug=false")
		if inconclusive := status == 5 && strings.Contains(errs, "inconclusive"); status != 0 && !inconclusive {
			t.Errorf("status %d, want 0 without hotplug:\n%s\n%s", status, out, errs)
		}
	})
	for tag, waitedFor := range map[string]string{"unlink_under_locks": "kn->active#", "notify_under_locks": "i_mutex_"} {
		t.Run("lockdep/"+tag, func(t *testing.T) {
			t.Parallel()
			status, out, errs := root.stressOf(t, buildFault(t, tag), "--duration=3s", "--hotplug=false", "--lockdep")
			if status != 5 {
				t.Errorf("status %d; want 5", status)
			}
			for _, w := range []string{`\nWARNING: possible circular locking`, `\n-> #\d \(` + waitedFor, `\n-> #\d \(slab_mutex\)`, `alloc\.\(\*Allocator\)\.unlinkLocked`} {
				if !regexp.MustCompile(w).MatchString(errs) {
					t.Errorf("no %q in the report:\n%s\n%s", w, out, errs)
				}
			}
		})
	}
}

// unchecked in the environment turns the checker of lock order off, for programs
// that are to go wrong by themselves.
const unchecked = "SLABFS_LOCKDEP="

// has reports whether the functions are in a stack.
func (g goroutine) has(stack string) bool {
	return !slices.ContainsFunc(g, func(f string) bool { return !strings.Contains(stack, f) })
}

// buildFault builds the command with a protection broken.
func buildFault(t *testing.T, tag string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slabfs-"+tag)
	if out, err := exec.Command("go", "build", "-tags=fault_"+tag, "-o", path, "slabfs/cmd/slabfs").CombinedOutput(); err != nil {
		t.Fatalf("build with %s: %v\n%s", tag, err, out)
	}
	return path
}

// stressOf runs stress of another build of the command.
func (u user) stressOf(t *testing.T, path string, flags ...string) (status int, stdout, stderr string) {
	t.Helper()
	u, _ = u.scratch(t)
	c := u.command(append([]string{"stress", "--seed=1"}, flags...)...)
	c.Path, c.Env = path, append(c.Env, unchecked)
	return finish(t, c)
}
