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
// arguments and environment. backgroundEnv tells the child from the parent; the
// child removes it from its environment.
//
// The child's standard output is a pipe to the parent. A line on the pipe says
// that the mount is ready. Until then the child shares the parent's standard
// error, so that the user sees its complaints.
const backgroundEnv = "SLABFS_IN_BACKGROUND"

var inBackground = sync.OnceValue(func() bool {
	_, ok := os.LookupEnv(backgroundEnv)
	_ = os.Unsetenv(backgroundEnv)
	return ok
})

// Until it has mounted, the child ends when its parent ends. The kernel ties
// this signal to threads, not processes: it watches the parent's thread that
// started the child, and only the child's first thread can turn the signal off.
func init() {
	if inBackground() {
		runtime.LockOSThread()
	}
}

// startBackground starts the child and returns when the child has mounted and
// said so on out. If the child fails, startBackground fails with the child's
// exit status.
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
	// Other descriptors open here, such as a lock file, should not stay
	// open in the child. Before Linux 5.11 they do.
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
		return &statusError{status: exit.ExitCode()} // the child has printed why
	}
	if err == nil {
		err = errors.New("status 0")
	}
	return fail(fmt.Errorf("the child ended before it was ready: %w; `slabfs umount` clears what it may have left", err))
}

// sayReady prints the line that says that the mount is ready. A daemon then
// detaches from the terminal and from the directory it was started in; it fails
// if its parent is gone. From then on standard error goes to errs; nil discards
// it.
func sayReady(line string, errs *os.File) error {
	if !inBackground() {
		fmt.Println(line) // an error does not matter: perhaps nobody reads it
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

// dup makes to refer to the file that from refers to.
func dup(from, to *os.File) error {
	return os.NewSyscallError("dup3", unix.Dup3(int(from.Fd()), int(to.Fd()), 0))
}
