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

// UnmountOnSignal unmounts before a signal ends the process, which would leave a
// stale mount. Without arguments the signals are SIGINT, SIGTERM, SIGHUP, SIGQUIT
// and SIGABRT. Afterwards the signal does what it does otherwise: the process
// ends, and no goroutine that waits for Done goes on before. Signals that are
// ignored stay ignored.
//
// While the mount is in use, SIGINT, SIGTERM and SIGHUP wait for its users as
// Unmount does; functions of OnEnd run. A second signal does not wait. SIGQUIT and
// SIGABRT, which print all stacks, detach the mount and wait for nobody.
//
// It is for programs that have nothing else to do when such a signal comes. Others
// handle the signals, and call Unmount.
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
		case sig := <-c: // it came just before the end
			_ = unix.Kill(os.Getpid(), sig.(unix.Signal))
		default:
		}
	}()
}

// SecondSignal is when a further signal is another one, and asks for haste.
// timeout(1), and a shell that ends a job, send one to the process and to its
// group.
const SecondSignal = time.Second

// endBySignal unmounts, and then lets sig end the process. Further signals come
// from c.
func (s *Server) endBySignal(sig os.Signal, c chan os.Signal) {
	s.signalled.Store(true)
	s.unmounting.Store(true)
	if sig == unix.SIGQUIT || sig == unix.SIGABRT {
		s.logEnd(s.unmountOnce(true))
		s.removeDir() // after a detach it is no mount point any more
	} else {
		s.logEnd(s.UnmountUntil(c))
	}
	s.queue.Flush(logPatience)
	signal.Stop(c)
	_ = unix.Kill(os.Getpid(), sig.(unix.Signal))
	// The process ends here, unless it has other uses for the signal.
	time.Sleep(time.Second)
	s.closeDone()
}

// UnmountUntil is Unmount after a signal: when c brings another one the mount is
// detached at once, and nobody is waited for.
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

// logEnd logs why an unmount was not as it should be.
func (s *Server) logEnd(err error) {
	if err != nil && !errors.Is(err, ErrDetached) {
		s.log.Warn("a signal ends the process", "error", err)
	}
}
