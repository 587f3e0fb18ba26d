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

	"slabfs/internal/asynclog"
	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// unmountTimeout bounds Unmount if its context has no deadline.
const unmountTimeout = 5 * time.Second

// logPatience is how long the end of serving waits for a slow log.
const logPatience = time.Second

// A Server serves one tree on one directory.
type Server struct {
	dir      string            // I
	minor    int               // I: device number of the mount
	mountID  int               // I: with minor, identifies the mount in mountinfo
	tree     *sysfs.Tree       // I
	log      *slog.Logger      // I
	queue    *asynclog.Handler // I: of log, so that no request waits for a slow log
	fs       *fileSystem       // I
	fuse     *fuse.Server      // I
	notifier *notifier         // I
	device   *device           // I: for requests and notifications; nil if not available
	forget   func()            // I: unregisters from removals and changes

	unmounting atomic.Bool             // A: Unmount was called
	signalled  atomic.Bool             // A: a signal ends the process; Done must not come first
	made       atomic.Pointer[madeDir] // A: the mount point that Mount made, until removed
	stopped    chan struct{}           // closed when no further Show or Store begins
	cleaned    chan struct{}           // closed when the functions of OnEnd have run
	done       chan struct{}           // closed like cleaned, unless signalled
	closeDone  func()                  // I
	endOnce    sync.Once

	mu    lockdep.Mutex
	err   error    // mu: why serving ended
	ended bool     // mu
	onEnd []func() // mu
}

// Stats counts notifications of removals, and lost log lines.
type Stats struct {
	Notified uint64 // answered by the kernel
	Late     uint64 // not answered within a second; the remover went on
	Skipped  uint64 // not sent, because another one was stuck
	Unlogged uint64 // lines for Options.Logger dropped because it was slow
}

func newServer(dir string, t *sysfs.Tree, o Options) *Server {
	s := &Server{dir: dir, tree: t, log: o.Logger, queue: asynclog.New(o.Logger.Handler()), stopped: make(chan struct{}), cleaned: make(chan struct{}), done: make(chan struct{})}
	s.closeDone = sync.OnceFunc(func() { close(s.done) })
	s.mu.Init(lockdep.Leaf)
	s.fs = newFileSystem(t, o, s.stopped)
	s.notifier = newNotifier(s.hide, s.tidy, s.fs.leftovers)
	return s
}

// serve starts to answer requests.
//
// Preconditions: s.fuse is connected with the options mo; before are the
// process's descriptors of /dev/fuse from before that.
func (s *Server) serve(mo *fuse.MountOptions, before map[int]bool) error {
	m, err := topMount(s.dir)
	if err == nil && m != nil {
		s.minor, s.mountID = m.Minor, m.ID
		s.device = newDevice(s.minor, before, s.fs, mo, s.fuse.KernelSettings(), s.log)
	}
	noRemovals, noChanges := s.tree.OnRemove(s.observer()), s.tree.OnChange(s.changed)
	s.forget = func() { noRemovals(); noChanges() }
	go func() {
		if s.device != nil {
			s.device.serve()
			go s.device.close() // close waits for a notification, which may hang
		}
		s.fuse.Serve() // returns when the connection ends, and closes the descriptor
		s.end(s.verdict())
	}()
	return errors.Join(err, s.fuse.WaitMount())
}

// removed tells the kernel that a name is gone.
func (s *Server) removed(r sysfs.Removal) {
	inodeLocked(r.Parent, lockdep.Exclusive)() // also if no notification is needed this time
	if s.fs.leave(r.Node) && s.fs.knows(r.Parent) {
		s.notifier.entry(r)
	}
}

// changed makes the kernel ask for n's attributes the next time: nlink and the
// times of a directory change with its entries. Unlike a removal it takes no
// lock of the kernel that a client can hold for long.
//
// A client that has looked n up for the first time may still be about to put it
// into the kernel's table, with the old attributes. So changed notifies the
// kernel again until it knows n, or has forgotten it.
func (s *Server) changed(n sysfs.Node) {
	if s.fs.knows(n) && !s.invalidate(n) {
		s.notifier.aside.do(func() { s.changedAgain(n) })
	}
}

// changedAgain notifies the kernel until it knows n, or has forgotten it.
func (s *Server) changedAgain(n sysfs.Node) {
	const again = 100 * time.Microsecond
	for left := notifyWait; left > 0 && s.fs.knows(n); left -= again {
		select {
		case <-s.stopped:
			return
		case <-time.After(again):
		}
		if s.invalidate(n) {
			return
		}
	}
}

// invalidate tells the kernel that n's attributes have changed, and reports
// whether it knows n.
func (s *Server) invalidate(n sysfs.Node) bool {
	return s.fuse.InodeNotify(nodeID(n), -1, 0) != fuse.ENOENT
}

// verdict returns why the connection has ended, and cleans up after an abort.
func (s *Server) verdict() error {
	if s.unmounting.Load() {
		return nil
	}
	// Numbers are used again at once. Another, living server may have this
	// server's numbers now.
	m, err := s.find()
	if err == nil && (m == nil || !errors.Is(ask(context.Background(), m.Mountpoint), ErrStale)) {
		return fmt.Errorf("serve %q: %w", s.dir, ErrUnmounted)
	}
	err = fmt.Errorf("serve %q: %w", s.dir, ErrConnectionLost)
	if derr := s.unmountOnce(true); derr != nil {
		err = fmt.Errorf("%w; detach: %w", err, derr)
	}
	return err
}

// end ends serving, once. No Show and no Store begins any more, and removals
// are no longer notified. It removes the directory if Mount made it, and then
// runs the functions of OnEnd.
func (s *Server) end(err error) {
	s.endOnce.Do(func() {
		close(s.stopped)
		s.forget()
		s.notifier.stop()
		s.removeDir()
		s.mu.Lock()
		s.err, s.ended = err, true
		functions := s.onEnd
		s.mu.Unlock()
		for _, f := range functions {
			f()
		}
		s.queue.Flush(logPatience)
		close(s.cleaned)
		if !s.signalled.Load() {
			s.closeDone()
		}
	})
}

// removeDir removes the mount point if it was made for this server.
func (s *Server) removeDir() {
	if d := s.made.Swap(nil); d != nil {
		if err := d.remove(); err != nil {
			s.log.Warn("the mount point stays", "error", err)
		}
	}
}

// Unmount ends serving. While the mount is in use, Unmount tries again until
// ctx ends, or for 5 s if ctx has no deadline. Then it detaches the mount.
// Users that have the mount open keep it, but reach no Show or Store any more:
// they get ENODEV.
//
// The error wraps ErrDetached if the mount was detached, or if a copy of it is
// left, as a bind mount or in another mount namespace. Unmount does not wait
// for running shows and stores; removing their kobjects does.
//
// Inside a Show or a Store, Unmount returns ErrBusy. A function of OnEnd must
// not call it.
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
	case <-s.stopped: // serving has ended: a mount there now is not ours
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
	case <-s.cleaned:
		return nil
	case <-ctx.Done():
		err := fmt.Errorf("unmount %q: a copy of the mount is left, as a bind mount or in another mount namespace: %w", s.dir, ErrDetached)
		s.end(err)
		return err
	}
}

// OnEnd makes f run when serving has ended for any reason. If it has ended
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

// Done returns a channel that is closed when serving has ended and the
// functions of OnEnd have run.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why serving ended: nil while it continues and after Unmount,
// ErrUnmounted if the mount was unmounted from outside, ErrConnectionLost if
// the connection was aborted.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Tree returns the tree that is served.
func (s *Server) Tree() *sysfs.Tree { return s.tree }

// Dir returns the mount point, with symbolic links resolved.
func (s *Server) Dir() string { return s.dir }

// MadeDir reports whether Mount made the directory and has not removed it yet.
func (s *Server) MadeDir() bool { return s.made.Load() != nil }

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{s.notifier.sent.Load(), s.notifier.late.Load(), s.notifier.skipped.Load(), s.queue.Dropped()}
}
