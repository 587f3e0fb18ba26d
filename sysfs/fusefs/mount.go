package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"slabfs/internal/asynclog"
	"slabfs/sysfs"
)

const (
	fsName = "slabfs"
	fsType = "fuse." + fsName // as shown in mountinfo
)

// The errors of this package. They are always wrapped with the directory they
// are about.
var (
	ErrMounted        = errors.New("already mounted")
	ErrNotMounted     = errors.New("not mounted")
	ErrBusy           = errors.New("in use")
	ErrStale          = errors.New("mount without a server")
	ErrNoAnswer       = errors.New("its server does not answer")
	ErrDetached       = errors.New("detached while in use")
	ErrUnmounted      = errors.New("unmounted from outside")
	ErrConnectionLost = errors.New("connection lost")
)

// NoCache as a timeout makes the kernel cache nothing: it asks each time.
const NoCache = time.Duration(-1)

// maxWrite is how many bytes the kernel may send in one write, in whole pages.
// Each segment of a writev takes at least one page, and a writev has at most
// 1024 segments. The kernel allows 256 pages, unless fs.fuse.max_pages_limit
// says otherwise.
const maxWrite = 1024 * sysfs.PageSize

// maxRead is the most bytes in one reply.
const maxRead = 64 << 10

// maxTimeout bounds how long the kernel may keep outdated names and attributes.
const maxTimeout = time.Second

// Options of a mount. The zero value is ready to use.
type Options struct {
	// AllowOther lets other users in. The modes of the files decide what
	// they may do. Mounts of root always allow others. Mounts of other
	// users need user_allow_other in /etc/fuse.conf for this.
	AllowOther bool

	// MountOptions are passed to the kernel as by mount -o, for example
	// "ro" or "context=...". The mount is always nosuid, nodev and noexec,
	// like sysfs. "uid=N", "gid=N" and "umask=OCTAL" change the tree's
	// sysfs.Access.
	MountOptions []string

	// KeepDir makes Mount use an existing directory. Mount then neither
	// makes nor removes it.
	KeepDir bool

	// EntryTimeout and AttrTimeout are how long the kernel may keep names
	// and attributes. 0, and anything longer than one second, means one
	// second.
	EntryTimeout, AttrTimeout time.Duration

	// MaxStores bounds the Stores that run at once. Further writers wait. 0
	// means 64.
	MaxStores int

	// Logger receives messages for the operator. nil means slog.Default().
	// No request waits for it. If it is slow, up to a thousand lines wait,
	// and further lines are dropped (Stats.Unlogged).
	Logger *slog.Logger

	// Debug logs every request at level debug.
	Debug bool

	// AbortOnPanic ends the process with status 2 when a Show or a Store
	// panics. Without it, the panic is logged and the client gets EIO, but
	// all locks that the function held stay locked.
	AbortOnPanic bool
}

func timeout(d time.Duration) time.Duration {
	switch {
	case d < 0:
		return 0
	case d == 0 || d > maxTimeout:
		return maxTimeout
	}
	return d
}

// mounting has an element while a goroutine of this process mounts. A server
// recognizes its connection by what is mounted on its directory, so no other
// goroutine may mount there in between.
var mounting = make(chan struct{}, 1)

// Mount serves t on the directory dir until Unmount, or until the connection
// ends otherwise. If dir is missing, Mount makes it and removes it when serving
// ends, unless Options.KeepDir.
//
// If a stale mount is on dir, left by a server that was killed, Mount detaches
// it first. If a live mount is on dir, the error wraps ErrMounted. A process
// that is ended by a signal leaves a stale mount: see Server.UnmountOnSignal.
func Mount(dir string, t *sysfs.Tree, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = slog.New(asynclog.New(o.Logger.Handler()))
	if o.MaxStores <= 0 {
		o.MaxStores = 64
	}
	var err error
	if o.MountOptions, err = setAccess(t, o.MountOptions); err != nil {
		return nil, fmt.Errorf("mount %q: %w", dir, err)
	}
	// Read /etc/localtime now, because the mount may hide it from log
	// lines.
	_, _ = time.Now().Zone()
	mounting <- struct{}{}
	defer func() { <-mounting }()
	s, err := mountOn(dir, t, o)
	// A server that is ending may remove the directory if it made it.
	for range 10 {
		if !errors.Is(err, errVanished) {
			break
		}
		s, err = mountOn(dir, t, o)
	}
	if err != nil {
		return nil, fmt.Errorf("mount %q: %w", dir, err)
	}
	return s, nil
}

// errVanished says that the directory was removed while Mount ran.
var errVanished = fmt.Errorf("it was removed just now: %w", fs.ErrNotExist)

// mountOn is one attempt of Mount.
func mountOn(dir string, t *sysfs.Tree, o Options) (*Server, error) {
	path, err := resolve(dir)
	missing := path != "" && errors.Is(err, fs.ErrNotExist)
	if err != nil && (!missing || o.KeepDir) {
		return nil, err
	}
	if err := refuse(path); err != nil {
		return nil, err
	}
	var made *madeDir
	if missing {
		made, err = makeDir(path)
		if err != nil && !errors.Is(err, fs.ErrExist) { // somebody else made it
			return nil, fmt.Errorf("make the mount point: %w", err)
		}
	}
	s, err := mountAt(path, made, t, o)
	if made == nil && errors.Is(err, fs.ErrNotExist) {
		if _, rerr := resolve(dir); errors.Is(rerr, fs.ErrNotExist) {
			return nil, errVanished
		}
	}
	return s, err
}

// mountAt mounts on an existing directory. If it fails, it removes the
// directory that was made.
func mountAt(path string, made *madeDir, t *sysfs.Tree, o Options) (*Server, error) {
	s := newServer(path, t, o)
	s.made.Store(made)
	err := clearStale(path, o.Logger)
	var mo *fuse.MountOptions
	var before map[int]bool
	if err == nil {
		before, _ = fuseDescriptors() // without /proc there is no device either
		mo, err = s.connect(o)
		if err != nil { // the kernel may have mounted before go-fuse failed
			_ = clearStale(path, slog.New(slog.DiscardHandler))
		}
	}
	if err != nil {
		s.notifier.stop()
		s.removeDir()
		return nil, err
	}
	if err := s.serve(mo, before); err != nil {
		_ = s.Unmount(context.Background())
		return nil, err
	}
	return s, nil
}
