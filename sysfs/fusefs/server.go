package fusefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// unmountTimeout bounds Unmount with a context that has no deadline.
const unmountTimeout = 5 * time.Second

// A Server serves one tree on one directory.
type Server struct {
	dir      string       // I
	minor    int          // I: device number of the mount, by which mountinfo tells it from others
	tree     *sysfs.Tree  // I
	log      *slog.Logger // I
	fs       *fileSystem  // I
	fuse     *fuse.Server // I
	notifier *notifier    // I
	device   *device      // I: reads requests instead of go-fuse, and is what the notifier writes to; nil if it cannot be had
	forget   func()       // I: stops hearing of removals

	unmounting atomic.Bool   // A: Unmount was called
	stopped    chan struct{} // closed when no further Show or Store begins
	done       chan struct{} // closed when the functions of OnEnd have run
	endOnce    sync.Once

	mu    lockdep.Mutex
	err   error    // mu: why serving ended
	ended bool     // mu
	onEnd []func() // mu
}

// Stats counts notifications of removals.
type Stats struct {
	Notified uint64 // answered by the kernel
	Late     uint64 // not answered within a second; the remover went on
	Skipped  uint64 // not sent, because one was stuck
}

func newServer(dir string, t *sysfs.Tree, o Options) *Server {
	s := &Server{dir: dir, tree: t, log: o.Logger, stopped: make(chan struct{}), done: make(chan struct{})}
	s.mu.Init(lockdep.Leaf)
	s.fs = newFileSystem(t, o, s.stopped)
	s.notifier = newNotifier(s.hide, s.tidy, s.fs.leftovers)
	return s
}

// serve starts to answer requests.
//
// Preconditions: s.fuse is connected, with these options.
func (s *Server) serve(mo *fuse.MountOptions) error {
	m, err := topMount(s.dir)
	if err == nil && m != nil {
		s.minor = m.Minor
		s.device = newDevice(s.minor, s.fs, mo, s.fuse.KernelSettings(), s.log)
	}
	s.forget = s.tree.OnRemove(s.observer())
	go func() {
		if s.device != nil {
			s.device.serve()
			go s.device.close() // it waits for a notification, which may hang
		}
		s.fuse.Serve() // until the connection ends; if it has ended, it closes its descriptor
		s.end(s.verdict())
	}()
	return errors.Join(err, s.fuse.WaitMount())
}

// removed tells the kernel that a name is gone.
func (s *Server) removed(r sysfs.Removal) {
	inodeLocked(r.Parent, lockdep.Exclusive)() // also where no notification is needed this time
	if s.fs.leave(r.Node) && s.fs.knows(r.Parent) {
		s.notifier.entry(r)
	}
}

// verdict tells why the connection has ended, and cleans up after an abort.
func (s *Server) verdict() error {
	if s.unmounting.Load() {
		return nil
	}
	// Device numbers are used again at once: what is mounted there may be another
	// server's by now, and alive.
	if m, err := topMount(s.dir); err == nil && (m == nil || m.Minor != s.minor || !stale(s.dir)) {
		return fmt.Errorf("serve %q: %w", s.dir, ErrUnmounted)
	}
	err := fmt.Errorf("serve %q: %w", s.dir, ErrConnectionLost)
	if derr := unmount(s.dir, true); derr != nil {
		err = fmt.Errorf("%w; detach: %w", err, derr)
	}
	return err
}

// end makes serving end, once: no Show and no Store begins any more, removals
// are not notified, then the functions of OnEnd run.
func (s *Server) end(err error) {
	s.endOnce.Do(func() {
		close(s.stopped)
		s.forget()
		s.notifier.stop()
		s.mu.Lock()
		s.err, s.ended = err, true
		functions := s.onEnd
		s.mu.Unlock()
		for _, f := range functions {
			f()
		}
		close(s.done)
	})
}

// Unmount ends serving. While the mount is in use it tries again until ctx
// ends, at most 5 s if ctx has no deadline; then it detaches the mount, which
// users that have it open keep, but no longer reach any Show or Store: they get
// ENODEV. The error is ErrDetached then, and also if a copy of the mount lives
// on, as a bind mount or in another mount namespace. Shows and stores that run at this moment are
// not waited for; removing their kobjects waits.
//
// A Show or a Store gets ErrBusy. A function of OnEnd must not call it.
func (s *Server) Unmount(ctx context.Context) error {
	if lockdep.InCallback() {
		return fmt.Errorf("unmount %q: called by a show or a store, which is a use of the mount: %w", s.dir, ErrBusy)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, unmountTimeout)
		defer cancel()
	}
	select {
	case <-s.stopped: // it has ended: what is mounted there now is not ours
		return nil
	default:
	}
	s.unmounting.Store(true)
	if err := s.unmountOurs(ctx); err != nil {
		err = fmt.Errorf("unmount %q: %w", s.dir, err)
		s.end(err)
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		err := fmt.Errorf("unmount %q: a copy of the mount is left, as a bind mount or in another mount namespace: %w", s.dir, ErrDetached)
		s.end(err)
		return err
	}
}

// unmountOurs unmounts s.dir if this server's mount is there.
func (s *Server) unmountOurs(ctx context.Context) error {
	m, err := topMount(s.dir)
	switch {
	case err != nil:
		return err
	case m == nil:
		return nil
	case m.Minor != s.minor:
		return fmt.Errorf("%w: something else is mounted over it", ErrBusy)
	}
	err = unmountRetry(ctx, s.dir, false)
	if errors.Is(err, unix.EINVAL) { // somebody else was faster
		return nil
	}
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := unmount(s.dir, true); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("detach: %w", err)
	}
	return ErrDetached
}

// OnEnd makes f run when serving has ended, however it did. If it has ended
// already, f runs now.
func (s *Server) OnEnd(f func()) {
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.onEnd = append(s.onEnd, f)
	}
	s.mu.Unlock()
	if ended {
		f()
	}
}

// Done returns a channel that is closed when serving has ended and the functions
// of OnEnd have run.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why serving ended: nil while it goes on and after Unmount,
// ErrUnmounted if somebody else unmounted, ErrConnectionLost if the connection
// was aborted.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Tree returns what is served.
func (s *Server) Tree() *sysfs.Tree { return s.tree }

// Dir returns the mount point, with symbolic links resolved.
func (s *Server) Dir() string { return s.dir }

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{s.notifier.sent.Load(), s.notifier.late.Load(), s.notifier.skipped.Load()}
}
