package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"slabfs/sysfs/fusefs"
)

// Exit statuses that shells use for a command that cannot be run.
const (
	statusNotExecutable = 126
	statusNotFound      = 127
)

// kernelFiles are the paths over which exec bind-mounts the files of a mount.
var kernelFiles = []string{"/sys/kernel/slab", "/proc/slabinfo"}

func newExecCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "exec DIR [--] COMMAND [ARG...]",
		Short: "run a command with a mount in place of the kernel's files",
		Long: `exec runs COMMAND in a mount namespace of its own, where /sys/kernel/slab and
/proc/slabinfo come from the slabfs mounted on DIR. Tools that have these paths
built in then show that slabfs. Everything else stays as it is, and no other process
sees a difference.

exec becomes COMMAND: input and output, signals and the exit status are COMMAND's
own. It needs root (CAP_SYS_ADMIN).

Exit status, unless it is COMMAND's: 1 usage; 2 DIR is not a live slabfs, or the
namespace could not be made; 126 COMMAND cannot be executed; 127 it is not found.`,
		Example: `  slabfs exec ./mnt slabtop
  slabfs exec ./mnt vmstat -m
  slabfs exec ./mnt -- sh -c 'echo 30 > /sys/kernel/slab/kmalloc-64/cpu_partial'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			dir, command, err := execArgs(args)
			if err != nil {
				return err
			}
			return execOn(dir, command)
		},
	}
	c.Flags().SetInterspersed(false) // what follows DIR is the command's
	return c
}

// execArgs splits DIR [--] COMMAND [ARG...].
func execArgs(args []string) (dir string, command []string, err error) {
	if len(args) > 1 {
		dir, command = args[0], args[1:]
		if command[0] == "--" {
			command = command[1:]
		} else if strings.HasPrefix(command[0], "-") {
			return "", nil, fmt.Errorf("exec: want a command after %q, not the option %q; see `slabfs exec --help`", dir, command[0])
		}
	}
	if len(command) == 0 {
		return "", nil, errors.New("exec: want a directory and a command; see `slabfs exec --help`")
	}
	return dir, command, nil
}

// execOn becomes the command, and so returns only if it fails.
func execOn(dir string, command []string) error {
	program, err := exec.LookPath(command[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return cannotRun(command[0], err)
	}
	source, err := findMount(dir)
	if err != nil {
		return &statusError{statusMount, fmt.Errorf("exec: %w", err)}
	}
	// The new namespace belongs to this thread. execve ends the other threads, and
	// the command inherits this thread's namespace.
	runtime.LockOSThread()
	if err := enter(source); err != nil {
		return &statusError{statusMount, fmt.Errorf("exec: %w", err)}
	}
	return cannotRun(command[0], syscall.Exec(program, command, os.Environ()))
}

func cannotRun(command string, err error) error {
	status := statusNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		status = statusNotFound
	}
	if e := (*exec.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return &statusError{status, fmt.Errorf("exec: run %q: %w", command, err)}
}

// findMount returns the path of dir. A live slabfs must be mounted there.
func findMount(dir string) (string, error) {
	path, err := fusefs.Find(dir)
	switch {
	case errors.Is(err, fusefs.ErrStale):
		return "", fmt.Errorf("the server of the mount on %q is dead; mount it again", dir)
	case errors.Is(err, fusefs.ErrNoAnswer):
		return "", fmt.Errorf("%w; `slabfs umount --lazy %s` removes it", err, dir)
	case errors.Is(err, fusefs.ErrNotMounted):
		return "", fmt.Errorf("no slabfs is mounted on %q; try: slabfs mount --load %s", dir, dir)
	}
	return path, err
}

// enter moves the calling thread into a mount namespace of its own, with the
// files of source in place of the kernel's.
//
// Preconditions: the goroutine is locked to its thread.
func enter(source string) error {
	wd, wdErr := unix.Getwd() // os.Getwd would stat the directory, whose server may be stopped
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w; exec needs root (CAP_SYS_ADMIN)", err)
	}
	if err := keepMounts(); err != nil {
		return fmt.Errorf("keep mounts from spreading: %w", err)
	}
	for _, file := range kernelFiles {
		if err := unix.Mount(source+file, file, "", unix.MS_BIND, ""); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("bind %s over %s: %w; the mount of another user must be made with -o allow_other", source+file, file, err)
			}
			return fmt.Errorf("bind %s over %s: %w; both must exist", source+file, file, err)
		}
		if wdErr == nil && strings.HasPrefix(wd+"/", file+"/") {
			_ = os.Chdir(wd) // re-enter the directory, now below the new mount
		}
	}
	return nil
}

// keepMounts stops mounts made in this namespace from spreading to others.
// Unmounts by others still spread to this namespace, because a private copy
// would keep those mounts alive.
//
// Preconditions: the thread has a mount namespace and a root of its own.
func keepMounts() error {
	slave := func() error { return unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, "") }
	err := slave()
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// In a chroot, / is not a mount point. Entering the namespace again
	// puts the thread at the root of the namespace.
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	wd, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(wd)
	self, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(self)
	if err := unix.Setns(self, unix.CLONE_NEWNS); err != nil {
		return err
	}
	err = slave()
	return errors.Join(err, unix.Fchdir(root), unix.Chroot("."), unix.Fchdir(wd))
}
