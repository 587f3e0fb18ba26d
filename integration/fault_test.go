package integration

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slabfs/internal/fault"
)

// A goroutine is told by functions that are in its stack.
type goroutine []string

// Who waits in the deadlock of three parties, besides the destroy.
var (
	storer  = goroutine{"sysfs.(*File).Store(", "cpu.(*Hotplug).RLockContext("}
	plugger = goroutine{"cpu.(*Hotplug).Lock("}
)

// Each mistake that internal/fault can make in the order of create and destroy is found
// by stress, which says what it found, and explains it. One of its processes judges, and is
// not told: see TestStressJudgeIsNotTold.
func TestFaults(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for name, tc := range map[string]struct {
		flags []string
		want  string // a regular expression, on standard error
		why   string // there too
		waits []goroutine
	}{
		fault.UnlinkUnderLocks: {nil, "has not ended after 10.", "which drains with the lock held", []goroutine{
			{"alloc.(*Allocator).destroy", "sysfs.(*Kobject).Remove(", "lockdep.(*Cond).Wait("}, storer, plugger,
		}},
		fault.NotifyUnderLocks: {[]string{"--deadline=4s"}, "has not ended after 4.", "which notifies with the lock held", []goroutine{
			{"alloc.(*Allocator).destroy", "DeleteNotify(", "unix.writev("}, storer, plugger,
		}},
		fault.PublishUnderLocks: {[]string{"--deadline=4s"}, "has not ended after 4.", "which publishes with the lock held", []goroutine{
			{"alloc.(*Allocator).NewCache(", "stress.(*census).Publish(", "alloc.(*Allocator).Caches(", "lockdep.(*Mutex).Lock("},
		}},
		fault.PublishBeforeUnlink: {nil, "caches released before the last unlink of them had ended", "unlink must come before release", nil},
		fault.LateUnlink:          {nil, "want no such cache|the name is taken|want the cache is gone", "its unlink came late|the name must be free, and is not|before destroy returns", nil},
		fault.EarlyName:           {nil, "is published, but another cache still has its name|create .*: add .*: name is taken", "the name was released before the unlink had ended", nil},
		fault.NoDrain:             {nil, "a released cache was in use|after the drain of their file had ended", "the drain did not wait for the active references", nil},
		fault.ReleaseBeforeUnlink: {nil, "a released cache was in use", "unlink must come before release", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := append(tc.flags, "--inject="+name)
			errs := root.caught(t, flags)
			for _, want := range []string{tc.want, tc.why} {
				if !regexp.MustCompile(want).MatchString(errs) {
					t.Errorf("no %q on standard error:\n%.3000s", want, errs)
				}
			}
			stacks := strings.Split(errs, "\n\n")
			for _, g := range tc.waits {
				if !slices.ContainsFunc(stacks, g.has) {
					t.Errorf("no goroutine waits in %q:\n%s", g, errs)
				}
			}
		})
	}
	// Without the third party, the wrong order looks right, but not to lockdep.
	t.Run("without hotplug", func(t *testing.T) {
		t.Parallel()
		status, out, errs := root.stressOf(t, "--duration=8s", "--hotplug=false", "--inject="+fault.UnlinkUnderLocks)
		if inconclusive := status == 5 && strings.Contains(errs, "inconclusive"); status != 0 && !inconclusive {
			t.Errorf("status %d, want 0 without hotplug:\n%s\n%s", status, out, errs)
		}
	})
	for name, waitedFor := range map[string]string{fault.UnlinkUnderLocks: "kn->active#", fault.NotifyUnderLocks: "i_mutex_"} {
		t.Run("lockdep/"+name, func(t *testing.T) {
			t.Parallel()
			status, out, errs := root.stressOf(t, "--duration=3s", "--hotplug=false", "--lockdep", "--inject="+name)
			if status != 5 {
				t.Errorf("status %d; want 5", status)
			}
			if strings.Contains(errs, "has not ended") {
				t.Error("a deadlock, which was not needed")
			}
			for _, w := range []string{`\nWARNING: possible circular locking`, `\n-> #\d \(` + waitedFor, `\n-> #\d \(slab_mutex\)`, `alloc\.\(\*Allocator\)\.destroyLocked`} {
				if !regexp.MustCompile(w).MatchString(errs) {
					t.Errorf("no %q in the report:\n%s\n%s", w, out, errs)
				}
			}
		})
	}
}

// caught runs stress until it finds a violation, and returns what it says. On an idle
// machine each is found within 30 seconds.
func (u user) caught(t *testing.T, flags []string) (stderr string) {
	t.Helper()
	for d := 30 * time.Second; ; d *= 2 {
		began := time.Now()
		status, out, errs := u.stressOf(t, append(flags, "--duration="+d.String())...)
		again := strings.Contains(errs, "; again: slabfs stress --seed 1 ")
		if status == 5 && again {
			t.Logf("caught after %v", time.Since(began).Round(time.Millisecond))
			return errs
		}
		if d > patience {
			t.Fatalf("status %d after %v; want 5, and how to do it again:\n%s\n%.3000s", status, d, out, errs)
		}
	}
}

// unchecked in the environment turns the checker of lock order off, for programs
// that are to go wrong by themselves.
const unchecked = "SLABFS_LOCKDEP="

// has reports whether the functions are in a stack.
func (g goroutine) has(stack string) bool {
	return !slices.ContainsFunc(g, func(f string) bool { return !strings.Contains(stack, f) })
}

// stressOf runs stress, which leaves nothing behind.
func (u user) stressOf(t *testing.T, flags ...string) (status int, stdout, stderr string) {
	t.Helper()
	u, _ = u.scratch(t)
	c := u.command(append([]string{"stress", "--seed=1"}, flags...)...)
	c.Env = append(c.Env, unchecked)
	status, stdout, stderr = finish(t, c)
	if m := regexp.MustCompile(`(?m)^the stacks of all goroutines are in (\S+)$`).FindStringSubmatch(stderr); m != nil {
		if text, err := os.ReadFile(m[1]); err != nil || !bytes.HasPrefix(text, []byte("goroutine ")) {
			t.Errorf("the file that stress names: %v; it begins with %.100q, want a goroutine", err, text)
		}
		if err := os.Remove(m[1]); err != nil {
			t.Error(err)
		}
	}
	return status, stdout, stderr
}
