package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/cmd/slabfs/internal/load"
	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// unmountPatience is how long a mount that is in use is waited for at the end.
const unmountPatience = 5 * time.Second

// serve mounts an allocator's files on dir until a signal or the loss of the
// connection.
func serve(dir string, o *mountOptions) error {
	// From here on signals end the command in order. Who started it under nohup
	// wants no SIGHUP; SIGINT counts even for a job that a shell script put in the
	// background. A reader of our output that is gone is no reason to leave a mount.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	if !signal.Ignored(unix.SIGHUP) {
		signal.Notify(signals, unix.SIGHUP)
	}
	signal.Ignore(unix.SIGPIPE)

	log, logFile, err := openLog(o)
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	if o.lockdep {
		lockdep.Enable()
	}
	if logFile != nil {
		lockdep.SetOutput(func(report string) { _, _ = logFile.WriteString(report) })
	}

	a, err := alloc.New(alloc.Options{MemoryLimit: int64(o.memoryLimit), Merge: !o.noMerge})
	if err != nil {
		return &statusError{statusMount, err}
	}
	for _, spec := range o.caches {
		if err := newCache(a, spec); err != nil {
			return err
		}
	}
	files := slabattr.New(a)
	if o.load {
		l, err := load.Start(a, files.Module())
		if err != nil {
			return fmt.Errorf("--load: %w", err)
		}
		defer l.Stop()
	}

	srv, made, err := mount(dir, files, fusefs.Options{
		MountOptions: o.options,
		Logger:       log,
		Debug:        o.debug,
		AbortOnPanic: invariants.Enabled,
	})
	if err != nil {
		files.Detach()
		status := statusMount
		if errors.Is(err, fusefs.ErrStale) {
			status = statusStale
		}
		return &statusError{status, err}
	}
	srv.OnEnd(files.Detach)

	note := ""
	if made {
		note = ", which was made for it"
	}
	ready := fmt.Sprintf("mounted on %s%s; try: cat %s", dir, note, filepath.Join(dir, "sys/kernel/slab/kmalloc-64/objects"))
	if err := sayReady(ready, logFile); err != nil {
		log.Warn("nobody waits for this mount any more, unmounting", "error", err)
		select {
		case signals <- unix.SIGTERM:
		default: // there are signals already
		}
	}

	select {
	case <-signals:
		err = unmount(srv, signals)
	case <-srv.Done():
		err = srv.Err()
	}
	removeMade(srv, made)
	switch {
	case errors.Is(err, fusefs.ErrDetached):
		fmt.Fprintf(os.Stderr, "slabfs: %v; who has it open gets errors from now on\n", err)
		return nil
	case errors.Is(err, fusefs.ErrUnmounted):
		log.Info("somebody else unmounted it", "dir", dir)
		return nil
	case errors.Is(err, fusefs.ErrConnectionLost):
		return &statusError{statusLost, fmt.Errorf("%w; mount it again", err)}
	case err != nil:
		return &statusError{statusMount, err}
	}
	return nil
}

// openLog returns the log that the flags ask for, and its file if it has one.
func openLog(o *mountOptions) (*slog.Logger, *os.File, error) {
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	var file *os.File
	out := os.Stderr
	if o.logFile != "" {
		var err error
		file, err = os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("--log-file: %w", err)
		}
		out = file
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})), file, nil
}

// mount mounts on dir, and makes it if it is missing.
func mount(dir string, files *slabattr.Tree, o fusefs.Options) (srv *fusefs.Server, made bool, err error) {
	for range 10 {
		switch err := os.Mkdir(dir, 0o755); {
		case err == nil:
			made = true
		case errors.Is(err, fs.ErrNotExist):
			return nil, false, fmt.Errorf("make the mount point: %w; make its parent first", err)
		case !errors.Is(err, fs.ErrExist):
			return nil, false, fmt.Errorf("make the mount point: %w", err)
		}
		srv, err = fusefs.Mount(dir, files.Sysfs(), o)
		if err == nil {
			return srv, made, nil
		}
		if _, serr := os.Lstat(dir); !errors.Is(serr, fs.ErrNotExist) {
			break
		}
		made = false // a server that is ending had made it and removed it just now
	}
	if made {
		_ = os.Remove(dir)
	}
	return nil, false, err
}

// unmount ends the server in order, or at once when a further signal comes.
func unmount(srv *fusefs.Server, signals <-chan os.Signal) error {
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), unmountPatience)
		defer cancel()
		ended <- srv.Unmount(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case <-signals:
	}
	err := fusefs.Unmount(context.Background(), srv.Dir(), true)
	if err != nil && !errors.Is(err, fusefs.ErrNotMounted) {
		return err
	}
	return fmt.Errorf("second signal: %q: %w", srv.Dir(), fusefs.ErrDetached)
}

// removeMade removes the mount point if the command had made it.
func removeMade(srv *fusefs.Server, made bool) {
	if !made {
		return
	}
	if err := os.Remove(srv.Dir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		slog.Warn("the mount point stays", "error", err)
	}
}
