package integration

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
)

// Set in the environment of what the tests start.
const (
	roleEnv   = "SLABFS_TEST_ROLE"   // what the test binary is to be: a key of roles
	insideEnv = "SLABFS_TEST_INSIDE" // it is in a mount namespace of its own
	binaryEnv = "SLABFS_TEST_BINARY" // the command, if it is built already
)

// roles are what the test binary can be besides tests and test clients.
var roles = map[string]func() error{
	"program": beProgram,
	"fill":    beFilling,
	"measure": beMeasuring,
	"spin":    beSpinning,
	"churn":   beChurning,
	"flushed": beFlushed,
	"struck":  beStruck,
}

var (
	binary string // the command
	tmp    string // for mount points; all users can walk there
)

func TestMain(m *testing.M) {
	testclient.Main()
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(lockdep.Status(0))
	}
	heedSignals()
	os.Exit(lockdep.Status(run(m)))
}

// heedSignals has the commands that tests start heed the signals that this process ignores,
// as under nohup or in a shell's background: ignoring is inherited, catching is not.
func heedSignals() {
	for _, sig := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

func run(m *testing.M) (status int) {
	if os.Getenv(insideEnv) != "" {
		if err := testclient.DetachOthers(""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	var err error
	if tmp, err = os.MkdirTemp("", "slabfs-integration-"); err == nil {
		err = os.Chmod(tmp, 0o755)
	}
	if err == nil {
		defer os.RemoveAll(tmp) // nothing is mounted there: checked before
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status = m.Run()
	left, err := mountsBelow(tmp)
	if err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "mounts are left: %q, %v\n", left, err)
		tmp = ""
		return 1
	}
	return status
}

// build makes the command, in the way in which the tests were made.
func build() error {
	if binary = os.Getenv(binaryEnv); binary != "" {
		return nil
	}
	binary = filepath.Join(tmp, "slabfs")
	args := []string{"build", "-o", binary}
	switch {
	case raceEnabled:
		args = append(args, "-race")
	case invariants.Enabled:
		args = append(args, "-tags", "slabfs_invariants")
	}
	out, err := exec.Command("go", append(args, "slabfs/cmd/slabfs")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return os.Setenv(binaryEnv, binary)
}

// mountsBelow returns the mount points in a directory.
func mountsBelow(dir string) ([]string, error) {
	var points []string
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	for _, m := range mounts {
		points = append(points, m.Mountpoint)
	}
	return points, err
}

// mounted reports whether a slabfs is mounted on dir.
func mounted(t testing.TB, dir string) bool {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	return len(mounts) > 0 && strings.HasPrefix(mounts[0].FSType, "fuse.slabfs")
}
