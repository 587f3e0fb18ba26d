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
	fsType = "fuse." + fsName // what mountinfo shows
)

// What this package returns, always wrapped with the directory it is about.
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

// NoCache as a timeout lets the kernel cache nothing: it asks each time.
const NoCache = time.Duration(-1)

// maxWrite is how many bytes the kernel may send in one write, in pages: each segment
// of a writev takes one at least. The most that a kernel lets us have is 256 pages,
// unless fs.fuse.max_pages_limit says otherwise. A writev has 1024 segments at most.
const maxWrite = 1024 * sysfs.PageSize

// maxRead is how many bytes go in one reply.
const maxRead = 64 << 10

// maxTimeout bounds how long the kernel may believe what is no longer so.
const maxTimeout = time.Second

// Options of a mount. The zero value is ready to use.
type Options struct {
	// AllowOther lets other users in; the modes of the files decide what they may
	// do. Mounts of root always do. Others need user_allow_other in /etc/fuse.conf.
	AllowOther bool

	// MountOptions are passed on, as mount -o would: "ro", "context=...". The mount
	// is nosuid, nodev and noexec in any case, as sysfs is. "uid=N", "gid=N" and
	// "umask=OCTAL" change the tree's sysfs.Access.
	MountOptions []string

	// KeepDir has Mount make no directory and remove none: it must be there.
	KeepDir bool

	// How long the kernel may keep names and attributes. 0, and anything longer,
	// is one second.
	EntryTimeout, AttrTimeout time.Duration

	// MaxStores bounds the Stores that run at once; further writers wait. 0 is 64.
	MaxStores int

	// Logger gets what concerns the operator. nil is slog.Default(). No request waits
	// for it: while it is slow, up to a thousand lines wait, and further ones are
	// dropped (Stats.Unlogged).
	Logger *slog.Logger

	// Debug logs every request, at level debug.
	Debug bool

	// AbortOnPanic ends the process with status 2 when a Show or a Store
	// panics. Otherwise the panic is logged and the client gets EIO, while
	// whatever locks the function held stay locked.
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

// mounting has an element while one of this process mounts. A server knows its connection
// by what is mounted on its directory, so nobody may mount there in between.
var mounting = make(chan struct{}, 1)

// Mount serves t on the directory dir until Unmount, or until the connection
// ends otherwise. It makes dir if it is missing, and removes what it has made
// when serving ends, unless Options.KeepDir.
//
// A stale mount on dir, left by a server that was killed, is detached first. If
// a live one is there, the error is ErrMounted. A process that a signal ends
// leaves a stale mount: see Server.UnmountOnSignal.
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
	_, _ = time.Now().Zone() // reads /etc/localtime now: a log line must not do so when the mount hides it
	mounting <- struct{}{}
	defer func() { <-mounting }()
	s, err := mountOn(dir, t, o)
	// A server that is ending may remove the directory, which it had made.
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

// errVanished says that the directory was there, and no longer is.
var errVanished = fmt.Errorf("it was removed just now: %w", fs.ErrNotExist)

// mountOn is one try of Mount.
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
		if err != nil && !errors.Is(err, fs.ErrExist) { // if so, somebody else has made it meanwhile
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

// mountAt mounts on a directory that is there. It removes what was made if it fails.
func mountAt(path string, made *madeDir, t *sysfs.Tree, o Options) (*Server, error) {
	s := newServer(path, t, o)
	s.made.Store(made)
	err := clearStale(path, o.Logger)
	var mo *fuse.MountOptions
	var before map[int]bool
	if err == nil {
		before, _ = fuseDescriptors() // without /proc there is no device either
		mo, err = s.connect(o)
		if err != nil { // the kernel may have mounted, and go-fuse failed later
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
