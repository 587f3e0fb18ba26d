package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A daemon is the same command run again in a session of its own, with the same
// arguments and environment. backgroundEnv tells the two apart; the child takes it
// out of its environment.
//
// The child's standard output is a pipe to the parent: a line on it says that the
// mount is ready. Standard error they share until then, so that what the child
// complains about is seen.
const backgroundEnv = "SLABFS_IN_BACKGROUND"

var inBackground = sync.OnceValue(func() bool {
	_, ok := os.LookupEnv(backgroundEnv)
	_ = os.Unsetenv(backgroundEnv)
	return ok
})

// The child ends with its parent until it has mounted. The kernel goes by threads:
// that of the parent which started the child, and the first one of the child,
// from which alone the signal can be called off.
func init() {
	if inBackground() {
		runtime.LockOSThread()
	}
}

// startBackground starts the child. It returns when the child has mounted, and
// said so on out, or has failed, and then fails with the same exit status.
func startBackground(out io.Writer) error {
	fail := func(err error) error {
		return &statusError{statusMount, fmt.Errorf("serve in the background: %w", err)}
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	runtime.LockOSThread() // until the child is ready, or this process ends
	child := exec.Command(self, os.Args[1:]...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), backgroundEnv+"=1")
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGTERM}
	// What else is open here, such as a lock file, is not to stay open for as long
	// as the child lives. Before Linux 5.11 it does.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	ready, err := child.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := child.Start(); err != nil {
		return fail(err)
	}
	line, err := io.ReadAll(ready) // the child closes it when it is ready, or ends
	if err == nil && len(line) > 0 {
		_, _ = out.Write(line)
		return nil
	}
	err = child.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return &statusError{status: exit.ExitCode()} // it has said why
	}
	if err == nil {
		err = errors.New("status 0")
	}
	return fail(fmt.Errorf("it ended before it was ready: %w; umount clears what it may have left", err))
}

// sayReady prints the line that says that the mount is there. A daemon then lets
// go of the terminal and of the directory it was started in; it fails if its
// parent is gone. errs is where standard error goes from then on, nil for nowhere.
func sayReady(line string, errs *os.File) error {
	if !inBackground() {
		fmt.Println(line) // whether somebody reads it or not
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	if errs == nil {
		errs = null
	}
	if err := errors.Join(os.Chdir("/"), dup(null, os.Stdin), dup(errs, os.Stderr), unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)); err != nil {
		return err
	}
	_, err = fmt.Println(line)
	return errors.Join(err, dup(null, os.Stdout))
}

// dup makes to what from is.
func dup(from, to *os.File) error {
	return os.NewSyscallError("dup3", unix.Dup3(int(from.Fd()), int(to.Fd()), 0))
}
