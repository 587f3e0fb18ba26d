package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// This file reads mountinfo to find out where a slabfs is mounted. It does not
// look into mounts. If the server of a mount is stopped, a stat of the mount
// point never returns, and the waiting thread takes no signal.

// maxLinks is how many symbolic links a path may follow, as in Linux.
const maxLinks = 40

// resolve returns the path of dir in mountinfo. It follows symbolic links up to
// the first slabfs on the path. If only the last element is missing, it returns
// the path and an error that is fs.ErrNotExist.
func resolve(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		wd, err := unix.Getwd()                // os.Getwd looks at the directory
		if err == nil && !filepath.IsAbs(wd) { // "(unreachable)/..."
			err = fs.ErrNotExist
		}
		if err != nil {
			return "", fmt.Errorf("the working directory cannot be reached (%q): %w; use an absolute path", wd, err)
		}
		dir = filepath.Join(wd, dir)
	}
	mounts, err := slabfsMounts()
	if err != nil {
		return "", err
	}
	path, rest := "/", strings.Split(filepath.Clean(dir), "/")
	link, target, behind := "", "", 0 // the last link, and how many elements came after it
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(path, name) // for "..", the parent
		if mounts[next] {
			return filepath.Join(append([]string{next}, rest...)...), nil
		}
		text, err := os.Readlink(next) // for a mount point, the kernel alone answers
		switch {
		case errors.Is(err, unix.EINVAL): // not a link
			path = next
		case errors.Is(err, fs.ErrNotExist) && link != "" && len(rest) >= behind:
			return "", fmt.Errorf("the symbolic link %q is dangling: it leads to %q: %w; make that, or remove the link", link, target, fs.ErrNotExist)
		case errors.Is(err, fs.ErrNotExist) && len(rest) == 0:
			return next, err
		case errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("%w; make its parent first", err)
		case err != nil:
			return "", err
		case links == maxLinks:
			return "", &fs.PathError{Op: "resolve", Path: dir, Err: unix.ELOOP}
		default:
			links++
			link, target, behind = next, text, len(rest)
			if filepath.IsAbs(text) {
				path = "/"
			}
			rest = append(strings.Split(text, "/"), rest...)
		}
	}
	return path, nil
}

// slabfsMounts returns the mount points where a slabfs is the visible mount.
func slabfsMounts() (map[string]bool, error) {
	mounts, err := mountinfo.GetMounts(nil)
	points := make(map[string]bool)
	for _, m := range mounts { // of several mounts on one directory, the last is visible
		points[m.Mountpoint] = m.FSType == fsType
	}
	return points, err
}

// topMount returns the newest mount on path, or nil if path is no mount point.
func topMount(path string) (*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	if err != nil || len(mounts) == 0 {
		return nil, err
	}
	return mounts[len(mounts)-1], nil
}

// needed are the paths that a server uses while it serves.
var needed = []string{"/proc/self/mountinfo", "/dev/fuse"}

// refuse returns an error if a mount on path would do harm: the server would
// wait for itself, or every program that lists processes would wait for the
// server.
func refuse(path string) error {
	for _, p := range needed {
		if inside(p, path) {
			return fmt.Errorf("a mount on %s would hide %s from its own server; choose another directory", path, p)
		}
	}
	around, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil || len(around) == 0 {
		return err
	}
	nearest := around[0]
	for _, m := range around {
		if len(m.Mountpoint) >= len(nearest.Mountpoint) {
			nearest = m
		}
	}
	if nearest.FSType == "proc" {
		return fmt.Errorf("a mount below %s would stop ps, and whatever else reads it, whenever the server is slow; choose another directory", nearest.Mountpoint)
	}
	return nil
}

// inside reports whether path is dir or below it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// answerTimeout is how long a live server may take to answer. Tests change it.
var answerTimeout = 5 * time.Second

// ask asks the server of the mount on path for a sign of life. It returns
// ErrStale if the server is dead, ErrNoAnswer if no answer comes in time, and
// otherwise the error in the answer. It uses statfs, because the kernel can
// answer a stat from its cache even if the server is dead.
func ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- unix.Statfs(path, new(unix.Statfs_t)) }()
	select {
	case err := <-answer:
		if errors.Is(err, unix.ENOTCONN) {
			return ErrStale
		}
		return err
	case <-ctx.Done():
		return ErrNoAnswer
	}
}

// clearStale detaches mounts of dead servers from path. If a live slabfs is
// there, the error wraps ErrMounted.
func clearStale(path string, log *slog.Logger) error {
	for {
		m, err := topMount(path)
		if err != nil || m == nil || m.FSType != fsType {
			return err
		}
		switch err := ask(context.Background(), path); {
		case errors.Is(err, ErrNoAnswer):
			return fmt.Errorf("a slabfs that does not answer is there: %w; `slabfs umount --lazy` detaches it", ErrMounted)
		case !errors.Is(err, ErrStale):
			return fmt.Errorf("a live slabfs is there: %w; unmount it first", ErrMounted)
		}
		if err := unmount(path, true); err != nil {
			return fmt.Errorf("detach: %w: %w; try `umount -l` as root", ErrStale, err)
		}
		log.Warn("detached a mount whose server had died", "dir", path)
	}
}

// Find returns the path of dir, with symbolic links resolved, if a slabfs is
// mounted there and answers. Otherwise the error wraps ErrNotMounted, ErrStale,
// ErrNoAnswer, or the kernel's error, such as fs.ErrPermission.
func Find(dir string) (string, error) {
	path, err := resolve(dir)
	if err != nil {
		return "", err
	}
	m, err := topMount(path)
	if err != nil {
		return "", err
	}
	if m == nil || m.FSType != fsType {
		return "", fmt.Errorf("no slabfs is mounted on %q: %w", dir, ErrNotMounted)
	}
	if err := ask(context.Background(), path); err != nil {
		return "", fmt.Errorf("the slabfs on %q: %w", dir, err)
	}
	return path, nil
}

// A madeDir is a directory that Mount made. Its descriptor prevents the kernel
// from using the inode number again, and follows the directory when a parent is
// renamed.
type madeDir struct{ fd int }

// makeDir makes a directory. Its parent must exist.
func makeDir(path string) (*madeDir, error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = os.Remove(path)
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &madeDir{fd}, nil
}

// remove removes the directory, wherever it is now. If something else is in its
// place, that stays. remove may be called once.
func (d *madeDir) remove() error {
	defer unix.Close(d.fd)
	path, err := os.Readlink(fmt.Sprint("/proc/self/fd/", d.fd))
	if err != nil {
		return err
	}
	var ours unix.Stat_t
	if err := unix.Fstat(d.fd, &ours); err != nil || ours.Nlink == 0 {
		return err
	}
	// A mount there may have no server, so the kernel must not ask it.
	var there unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &there)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case there.Ino != ours.Ino || unix.Mkdev(there.Dev_major, there.Dev_minor) != ours.Dev:
		return fmt.Errorf("%s: something else is there by now", path)
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}
