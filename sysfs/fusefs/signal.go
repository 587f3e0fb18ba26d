package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// UnmountOnSignal unmounts before a signal ends the process, because the
// process would otherwise leave a stale mount. Without arguments the signals
// are SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGABRT. After unmounting, the
// signal has its usual effect: the process ends. Goroutines that wait for Done
// do not continue before that. Signals that are ignored stay ignored.
//
// While the mount is in use, SIGINT, SIGTERM and SIGHUP wait for its users as
// Unmount does, and functions of OnEnd run. A second signal ends the wait.
// SIGQUIT and SIGABRT, which print all stacks, detach the mount and wait for
// nobody.
//
// UnmountOnSignal is for programs that have nothing else to do when such a
// signal comes. Other programs handle the signals themselves and call Unmount.
func (s *Server) UnmountOnSignal(signals ...os.Signal) {
	if len(signals) == 0 {
		signals = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGABRT}
	}
	c := make(chan os.Signal, 2)
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	s.OnEnd(func() {
		if !s.signalled.Load() {
			signal.Stop(c)
		}
	})
	go func() {
		select {
		case sig := <-c:
			s.endBySignal(sig, c)
			return
		case <-s.done:
		}
		select {
		case sig := <-c: // the signal came just before the end
			_ = unix.Kill(os.Getpid(), sig.(unix.Signal))
		default:
		}
	}()
}

// SecondSignal is how long after the first signal another one counts as a
// second signal, which asks for haste. timeout(1), and a shell that ends a job,
// send one signal to the process and one to its group.
const SecondSignal = time.Second

// endBySignal unmounts, and then lets sig end the process. Further signals come
// from c.
func (s *Server) endBySignal(sig os.Signal, c chan os.Signal) {
	s.signalled.Store(true)
	s.unmounting.Store(true)
	if sig == unix.SIGQUIT || sig == unix.SIGABRT {
		s.logEnd(s.unmountOnce(true))
		s.removeDir() // after a detach it is not a mount point any more
	} else {
		s.logEnd(s.UnmountUntil(c))
	}
	s.queue.Flush(logPatience)
	signal.Stop(c)
	_ = unix.Kill(os.Getpid(), sig.(unix.Signal))
	// The process ends here, unless it uses the signal for something else.
	time.Sleep(time.Second)
	s.closeDone()
}

// UnmountUntil is Unmount after a signal. If c brings another signal,
// UnmountUntil detaches the mount at once and waits for nobody. A signal within
// SecondSignal of the call does not count.
func (s *Server) UnmountUntil(c <-chan os.Signal) error {
	ctx, hurry := context.WithTimeout(context.Background(), unmountTimeout)
	defer hurry()
	begun, ended := time.Now(), make(chan error, 1)
	go func() { ended <- s.Unmount(ctx) }()
	var late <-chan time.Time
	for {
		select {
		case err := <-ended:
			if late != nil && err != nil {
				err = fmt.Errorf("second signal: %w", err)
			}
			return err
		case <-c:
			if late == nil && time.Since(begun) >= SecondSignal {
				hurry()
				late = time.After(SecondSignal)
			}
		case <-late: // a function of OnEnd waits
			return fmt.Errorf("second signal: unmount %q: %w", s.dir, ErrDetached)
		}
	}
}

// logEnd logs why an unmount failed.
func (s *Server) logEnd(err error) {
	if err != nil && !errors.Is(err, ErrDetached) {
		s.log.Warn("a signal ends the process", "error", err)
	}
}
