package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/cmd/slabfs/internal/load"
	"slabfs/internal/asynclog"
	"slabfs/internal/invariants"
	"slabfs/internal/lockdep"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// mountPatience is how long mounting may go on after a signal asked the command
// to end.
const mountPatience = 5 * time.Second

// serve mounts an allocator's files on dir, and returns after a signal or when
// the connection is lost.
func serve(dir string, o *mountOptions) error {
	signals := hearSignals()
	log, logFile, err := openLog(o) // may wait for the reader of a FIFO
	if err != nil {
		return err
	}
	queue := asynclog.New(log.Handler()) // nobody waits for a reader of the log
	log = slog.New(queue)
	defer queue.Flush(time.Second)
	slog.SetDefault(log)
	if o.lockdep {
		lockdep.Enable()
	}
	if logFile != nil {
		lockdep.SetOutput(func(report string) { _, _ = logFile.WriteString(report) })
	}

	a, err := newAllocator(o)
	if err != nil {
		return err
	}
	files := slabattr.New(a)
	if o.load {
		l, err := load.Start(a, files.Module())
		if err != nil {
			return fmt.Errorf("--load: %w", err)
		}
		defer l.Stop()
	}

	signals.endOrderly()
	srv, err := mount(dir, files, signals, fusefs.Options{
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
	srv.UnmountOnSignal(unix.SIGQUIT, unix.SIGABRT)
	if err := sayReady(readyLine(dir, srv), logFile); err != nil {
		log.Warn("cannot report that the mount is ready, unmounting", "error", err)
		signals.putBack(unix.SIGTERM)
	}

	select {
	case <-signals.c:
		err = srv.UnmountUntil(signals.c)
	case <-srv.Done():
		err = srv.Err()
	}
	return endOf(err, dir, log)
}

// newAllocator returns an allocator with the caches that the flags ask for.
func newAllocator(o *mountOptions) (*alloc.Allocator, error) {
	a, err := alloc.New(alloc.Options{MemoryLimit: int64(o.memoryLimit), Merge: !o.noMerge})
	if err != nil {
		return nil, &statusError{statusMount, err}
	}
	for _, spec := range o.caches {
		if err := newCache(a, spec); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// endOf returns the command's error. err is the reason why serving ended.
func endOf(err error, dir string, log *slog.Logger) error {
	switch {
	case errors.Is(err, fusefs.ErrDetached):
		complain("%v; programs that have it open get errors from now on", err)
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

func readyLine(dir string, srv *fusefs.Server) string {
	note := ""
	if srv.MadeDir() {
		note = ", which was made for it"
	}
	return fmt.Sprintf("mounted on %s%s; try: cat %s", dir, note, filepath.Join(dir, "sys/kernel/slab/kmalloc-64/objects"))
}

// signals are the signals that end the command.
type signals struct {
	c     chan os.Signal
	early chan struct{} // after a value on it, a signal ends the command in order
}

// hearSignals lets signals end the command at once as long as it has mounted
// nothing. Under nohup the user wants no SIGHUP. SIGINT counts even if a shell
// script started the command in the background. SIGPIPE is ignored: if the
// reader of our output is gone, the mount stays.
func hearSignals() signals {
	s := signals{make(chan os.Signal, 2), make(chan struct{})}
	signal.Notify(s.c, unix.SIGINT, unix.SIGTERM)
	if !signal.Ignored(unix.SIGHUP) {
		signal.Notify(s.c, unix.SIGHUP)
	}
	signal.Ignore(unix.SIGPIPE)
	status := 0
	if inBackground() {
		status = statusMount // the mount that the parent waits for does not come
	}
	go func() {
		select {
		case sig := <-s.c:
			complain("%v: ended before anything was mounted", sig)
			os.Exit(status)
		case <-s.early:
		}
	}()
	return s
}

// endOrderly must be called before mounting begins. From then on the server
// receives the signals.
func (s signals) endOrderly() { s.early <- struct{}{} }

// putBack makes sig, or another signal that arrived after it, available again.
func (s signals) putBack(sig os.Signal) {
	select {
	case s.c <- sig:
	default: // another signal is waiting
	}
}

// openLog returns the log that the flags ask for, and its file, if any.
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
			return nil, nil, &statusError{statusMount, fmt.Errorf("--log-file: %w", err)}
		}
		out = file
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})), file, nil
}

// mount mounts on dir. A signal that arrives while it mounts is kept for the
// server. If mounting does not end after such a signal, mount fails.
func mount(dir string, files *slabattr.Tree, s signals, o fusefs.Options) (*fusefs.Server, error) {
	type result struct {
		srv *fusefs.Server
		err error
	}
	mounted := make(chan result, 1)
	go func() {
		srv, err := fusefs.Mount(dir, files.Sysfs(), o)
		mounted <- result{srv, err}
	}()
	select {
	case r := <-mounted:
		return r.srv, r.err
	case sig := <-s.c:
		select {
		case r := <-mounted:
			s.putBack(sig)
			return r.srv, r.err
		case <-time.After(mountPatience):
			return nil, fmt.Errorf("mount %q: got %v, but mounting does not end; `slabfs umount --lazy` clears what it may have left", dir, sig)
		}
	}
}
