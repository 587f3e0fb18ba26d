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
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// connect mounts and reads the kernel's first message. It returns the mount
// options it used.
func (s *Server) connect(o Options) (*fuse.MountOptions, error) {
	root := os.Geteuid() == 0
	// Our options come last and win, because mount(8) adds dev and suid by
	// itself.
	options := append(slices.Clone(o.MountOptions), "default_permissions", "nosuid", "nodev", "noexec", fmt.Sprint("max_read=", maxRead))
	allowOther := o.AllowOther || root || slices.Contains(options, "allow_other")
	options = slices.DeleteFunc(options, func(s string) bool { return s == "allow_other" })
	level := slog.LevelWarn // of messages from go-fuse
	if o.Debug {
		level = slog.LevelDebug
	}
	mo := &fuse.MountOptions{
		Name:              fsName,
		FsName:            fsName,
		AllowOther:        allowOther,
		Options:           options,
		DirectMountStrict: root,
		MaxWrite:          maxWrite, // go-fuse asks for as much of it as the kernel allows
		ExtraCapabilities: fuse.CAP_READDIRPLUS_AUTO,
		SyncRead:          true, // sendfile reads the pieces of one snapshot in order
		Debug:             o.Debug,
		Logger:            log.New(libraryLog{o.Logger, level}, "", 0),
		PanicHandler: func(p any) fuse.Status {
			o.Logger.Error("panic in a show or store", "panic", p, "stack", string(debug.Stack()))
			if o.AbortOnPanic {
				_ = s.unmountOnce(true)
				s.removeDir()
				s.queue.Flush(logPatience)
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
		return nil, explain(err, root, allowOther, o.MountOptions)
	}
	return mo, nil
}

// libraryLog passes on what go-fuse logs. A failed read from the kernel is
// logged at level debug, because it is normal at the end of a mount. go-fuse
// reports it if a request was under way. verdict says why the mount ended.
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
// set on a /dev/fuse that it has opened itself. A child that inherited the
// descriptor would keep a dead mount alive. So no child may be forked in
// between.
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

// closeFuseOnExec sets close-on-exec on this process's descriptors of
// /dev/fuse.
func closeFuseOnExec() error {
	fds, err := fuseDescriptors()
	for fd := range fds {
		syscall.CloseOnExec(fd)
	}
	return err
}

// refusedOption returns the first mount option that the kernel refuses, or ""
// if it cannot tell.
func refusedOption(options []string) string {
	fd, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC) // Linux 5.2
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	for _, o := range options {
		name, value, hasValue := strings.Cut(o, "=")
		if hasValue {
			err = unix.FsconfigSetString(fd, name, value)
		} else {
			err = unix.FsconfigSetFlag(fd, name)
		}
		if errors.Is(err, unix.EINVAL) {
			return o
		}
	}
	return ""
}

// explain adds to the error of a failed mount what to do about it.
func explain(err error, root, allowOther bool, options []string) error {
	device := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK)
	switch {
	case device == unix.ENOENT:
		return fmt.Errorf("%w: there is no /dev/fuse; `modprobe fuse`, or give the container --device /dev/fuse", err)
	case root && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: mounting needs CAP_SYS_ADMIN and /dev/fuse; give the container --cap-add SYS_ADMIN --device /dev/fuse", err)
	case root && errors.Is(err, unix.EINVAL):
		if o := refusedOption(options); o != "" {
			return fmt.Errorf("%w: the kernel does not know the mount option %q, or not its value", err, o)
		}
		return err
	case root:
		return err
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: install fuse3, whose fusermount3 mounts for users", err)
	}
	// fusermount3 has printed the reason on standard error; we only get a
	// status.
	err = errors.New(strings.TrimSpace(err.Error()))
	if device != nil {
		return fmt.Errorf("%w: users may not open /dev/fuse, and fusermount3 opens it as the user; `chmod 0666 /dev/fuse`", err)
	}
	if allowOther {
		return fmt.Errorf("%w: allow_other needs the line user_allow_other in /etc/fuse.conf", err)
	}
	return err
}
