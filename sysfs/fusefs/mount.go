package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

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
	ErrDetached       = errors.New("detached while in use")
	ErrUnmounted      = errors.New("unmounted from outside")
	ErrConnectionLost = errors.New("connection lost")
)

// NoCache as a timeout lets the kernel cache nothing: it asks each time.
const NoCache = time.Duration(-1)

// maxWrite is how many bytes come in one request, or go in one reply, at most.
const maxWrite = 64 << 10

// maxTimeout bounds how long the kernel may believe what is no longer so.
const maxTimeout = time.Second

// Options of a mount. The zero value is ready to use.
type Options struct {
	// AllowOther lets other users in; the modes of the files decide what they may
	// do. Mounts of root always do. Others need user_allow_other in /etc/fuse.conf.
	AllowOther bool

	// MountOptions are passed on, as mount -o would: "ro", "context=...". The mount
	// is nosuid, nodev and noexec in any case, as sysfs is.
	MountOptions []string

	// How long the kernel may keep names and attributes. 0, and anything longer,
	// is one second.
	EntryTimeout, AttrTimeout time.Duration

	// MaxStores bounds the Stores that run at once; further writers wait. 0 is 64.
	MaxStores int

	// Logger gets what concerns the operator. nil is slog.Default().
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
// ends otherwise.
//
// A stale mount on dir, left by a server that was killed, is detached first. If
// a live one is there, the error is ErrMounted.
func Mount(dir string, t *sysfs.Tree, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxStores <= 0 {
		o.MaxStores = 64
	}
	path, err := resolve(dir)
	if err != nil {
		return nil, fmt.Errorf("mount %q: %w", dir, err)
	}
	mounting <- struct{}{}
	defer func() { <-mounting }()
	if err := clearStale(path, o.Logger); err != nil {
		return nil, fmt.Errorf("mount %q: %w", dir, err)
	}
	s := newServer(path, t, o)
	mo, err := s.connect(o)
	if err != nil {
		s.notifier.stop()
		return nil, fmt.Errorf("mount %q: %w", dir, err)
	}
	if err := s.serve(mo); err != nil {
		_ = s.Unmount(context.Background())
		return nil, fmt.Errorf("mount %q: %w", dir, err)
	}
	return s, nil
}

// connect mounts and reads the kernel's first message. It returns how.
func (s *Server) connect(o Options) (*fuse.MountOptions, error) {
	root := os.Geteuid() == 0
	// Ours come last and win: mount(8) adds dev and suid by itself.
	options := append(slices.Clone(o.MountOptions), "default_permissions", "nosuid", "nodev", "noexec")
	allowOther := o.AllowOther || root || slices.Contains(options, "allow_other")
	options = slices.DeleteFunc(options, func(s string) bool { return s == "allow_other" })
	level := slog.LevelWarn // what go-fuse has to say otherwise
	if o.Debug {
		level = slog.LevelDebug
	}
	mo := &fuse.MountOptions{
		Name:              fsName,
		FsName:            fsName,
		AllowOther:        allowOther,
		Options:           options,
		DirectMountStrict: root,
		// More than a page, so that a longer write comes whole and is cut here, not
		// in two by the kernel. Reads of long files take fewer requests.
		MaxWrite:          maxWrite,
		ExtraCapabilities: fuse.CAP_READDIRPLUS_AUTO,
		Debug:             o.Debug,
		Logger:            log.New(libraryLog{o.Logger, level}, "", 0),
		PanicHandler: func(p any) fuse.Status {
			o.Logger.Error("panic in a show or store", "panic", p, "stack", string(debug.Stack()))
			if o.AbortOnPanic {
				os.Exit(2)
			}
			return fuse.EIO
		},
	}
	var err error
	if root {
		s.fuse, err = connectDirectly(s.fs, s.dir, mo)
	} else {
		s.fuse, err = fuse.NewServer(s.fs, s.dir, mo)
	}
	if err != nil {
		return nil, explain(err, root, allowOther)
	}
	return mo, nil
}

// libraryLog hands on what go-fuse logs. That it can read no more from the kernel
// is no news when the mount ends, not even when a request was on its way, which
// go-fuse reports: verdict says why it ended.
type libraryLog struct {
	log   *slog.Logger
	level slog.Level
}

func (l libraryLog) Write(line []byte) (int, error) {
	level := l.level
	if bytes.HasPrefix(line, []byte("Failed to read from fuse conn")) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, string(bytes.TrimSuffix(line, []byte("\n"))))
	return len(line), nil
}

// connectDirectly is fuse.NewServer with close-on-exec, which go-fuse does not
// set on a /dev/fuse that it has opened itself. A child that inherited it would
// keep a dead mount alive, so none may be forked in between.
func connectDirectly(fsys fuse.RawFileSystem, dir string, mo *fuse.MountOptions) (*fuse.Server, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	server, err := fuse.NewServer(fsys, dir, mo)
	if err != nil {
		return nil, err
	}
	if err := closeFuseOnExec(); err != nil {
		return nil, errors.Join(err, unmount(dir, true))
	}
	return server, nil
}

// closeFuseOnExec marks this process's descriptors of /dev/fuse.
func closeFuseOnExec() error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range fds {
		var fd int
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || target != "/dev/fuse" {
			continue
		}
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

// explain adds to a failed mount what to do about it.
func explain(err error, root, allowOther bool) error {
	device := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK)
	switch {
	case device == unix.ENOENT:
		return fmt.Errorf("%w: there is no /dev/fuse; `modprobe fuse`, or give the container --device /dev/fuse", err)
	case root && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: mounting needs CAP_SYS_ADMIN and /dev/fuse; give the container --cap-add SYS_ADMIN --device /dev/fuse", err)
	case root && errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: does the kernel know the mount options?", err)
	case root:
		return err
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: install fuse3, whose fusermount3 mounts for users", err)
	}
	// fusermount3 has told its reason on standard error; we get a status.
	err = errors.New(strings.TrimSpace(err.Error()))
	if device != nil {
		return fmt.Errorf("%w: users may not open /dev/fuse, and fusermount3 opens it as the user; `chmod 0666 /dev/fuse`", err)
	}
	if allowOther {
		return fmt.Errorf("%w: allow_other needs the line user_allow_other in /etc/fuse.conf", err)
	}
	return err
}

// resolve returns the path that mountinfo shows for dir. It does not look into
// a mount point, whose server may be dead.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return path, nil
	}
	parent, perr := filepath.EvalSymlinks(filepath.Dir(abs))
	if perr != nil || errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}

// topMount returns the newest mount on path, nil if it is no mount point.
func topMount(path string) (*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	if err != nil || len(mounts) == 0 {
		return nil, err
	}
	return mounts[len(mounts)-1], nil
}

// clearStale detaches mounts of dead servers from path.
func clearStale(path string, log *slog.Logger) error {
	for {
		m, err := topMount(path)
		if err != nil || m == nil || m.FSType != fsType {
			return err
		}
		if !stale(path) {
			return fmt.Errorf("a live slabfs is there: %w; unmount it first", ErrMounted)
		}
		if err := unmount(path, true); err != nil {
			return fmt.Errorf("detach: %w: %w; try `umount -l` as root", ErrStale, err)
		}
		log.Warn("detached a mount whose server had died", "dir", path)
	}
}

// stale reports whether the server of the mount on path is dead. One that does
// not answer is not dead. It asks by statfs, because the kernel answers a stat
// for a dead server as long as it has the attributes in its cache.
func stale(path string) bool {
	answer := make(chan bool, 1)
	go func() {
		var st unix.Statfs_t
		answer <- errors.Is(unix.Statfs(path, &st), unix.ENOTCONN)
	}()
	select {
	case dead := <-answer:
		return dead
	case <-time.After(2 * time.Second):
		return false
	}
}

// unmount unmounts path once. With lazy it only takes it out of the name space:
// those who use it may go on.
func unmount(path string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		return os.NewSyscallError("umount", unix.Unmount(path, flags))
	}
	how := "-u"
	if lazy {
		how = "-uz"
	}
	program, err := exec.LookPath("fusermount3")
	if err != nil {
		program = "/bin/fusermount3" // where go-fuse looks, too, if PATH is empty
	}
	out, err := exec.Command(program, how, "--", path).CombinedOutput()
	if err != nil {
		if m, merr := topMount(path); merr == nil && m == nil {
			return unix.EINVAL // as umount(2) says of what is no mount point
		}
		if bytes.Contains(out, []byte("busy")) {
			return unix.EBUSY
		}
		return fmt.Errorf("fusermount3 %s: %w: %s", how, err, bytes.TrimSpace(out))
	}
	return nil
}

// Unmount unmounts dir, where a server of another process is mounted. ErrBusy
// means that the mount is in use, unless lazy, which detaches it even so. A
// stale mount is always detached.
func Unmount(ctx context.Context, dir string, lazy bool) error {
	path, err := resolve(dir)
	if err != nil {
		return fmt.Errorf("unmount %q: %w", dir, err)
	}
	m, err := topMount(path)
	if err != nil {
		return fmt.Errorf("unmount %q: %w", dir, err)
	}
	if m == nil || m.FSType != fsType {
		return fmt.Errorf("unmount %q: no slabfs there: %w", dir, ErrNotMounted)
	}
	err = unmountRetry(ctx, path, lazy || stale(path))
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: `fuser -vm` shows by whom; or unmount lazily", ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("unmount %q: %w", dir, err)
	}
	return nil
}

// unmountRetry unmounts path. While it is busy it tries again, until ctx ends.
func unmountRetry(ctx context.Context, path string, lazy bool) error {
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		err := unmount(path, lazy)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		}
	}
}
