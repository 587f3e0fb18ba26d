package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// unmount unmounts path once. With lazy it only removes the mount from the name
// space, and its users may continue.
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
		program = "/bin/fusermount3" // go-fuse also looks there, if PATH is empty
	}
	out, err := exec.Command(program, how, "--", path).CombinedOutput()
	if err != nil {
		if m, merr := topMount(path); merr == nil && m == nil {
			return unix.EINVAL // the error of umount(2) if path is no mount point
		}
		if bytes.Contains(out, []byte("busy")) {
			return unix.EBUSY
		}
		return fmt.Errorf("fusermount3 %s: %w: %s", how, err, bytes.TrimSpace(out))
	}
	return nil
}

// Unmount unmounts dir, where a server of another process is mounted. If the
// mount is in use until ctx ends, the error wraps ErrBusy. With lazy, Unmount
// detaches a mount even if it is in use, and waits for nobody, not even if the
// server does not answer. A stale mount is always detached. If no slabfs is on
// dir, the error wraps ErrNotMounted.
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
	asked := lazy
	err = retry(ctx, func() error {
		err := unmount(path, lazy)
		if errors.Is(err, unix.EBUSY) && !asked {
			asked = true
			if lazy = errors.Is(ask(ctx, path), ErrStale); lazy {
				err = unmount(path, lazy)
			}
		}
		return err
	})
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: `fuser -vm` shows by whom; or unmount lazily", ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("unmount %q: %w", dir, err)
	}
	return nil
}

// retry calls try again as long as it returns EBUSY, until ctx ends.
func retry(ctx context.Context, try func() error) error {
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		err := try()
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

// find returns this server's mount, wherever it is now, because a parent of the
// directory may have been renamed. It returns nil if the mount is gone.
func (s *Server) find() (*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		ours := m.ID == s.mountID && m.Minor == s.minor && m.FSType == fsType
		return !ours, ours
	})
	if err != nil || len(mounts) == 0 {
		return nil, err
	}
	return mounts[0], nil
}

// unmountOurs unmounts this server's mount. If the mount is in use until ctx
// ends, unmountOurs detaches it and returns ErrDetached.
func (s *Server) unmountOurs(ctx context.Context) error {
	err := retry(ctx, func() error { return s.unmountOnce(false) })
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := s.unmountOnce(true); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return ErrDetached
}

// unmountOnce unmounts this server's mount, or detaches it with lazy. It does
// nothing if the mount is gone.
func (s *Server) unmountOnce(lazy bool) error {
	m, err := s.find()
	if err != nil || m == nil {
		return err
	}
	covered := fmt.Errorf("%w: something else is mounted over %s", ErrBusy, m.Mountpoint)
	if top, err := topMount(m.Mountpoint); err != nil || top == nil || top.ID != m.ID {
		return errors.Join(covered, err)
	}
	err = unmount(m.Mountpoint, lazy)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The mount is not where it was: another process unmounted or moved it.
	switch again, err := s.find(); {
	case err != nil || again == nil:
		return err
	case again.Mountpoint != m.Mountpoint:
		return unix.EBUSY // try again
	}
	return covered
}
