package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"slabfs/cmd/slabfs/internal/bench"
)

// libraries are the libraries, with the names of their columns.
var libraries = []struct{ name, file string }{
	{"malloc", "libc.so.6"},
	{"jemalloc", "libjemalloc.so.2"},
	{"mimalloc", "libmimalloc.so.2.0"},
	{"tcmalloc", "libtcmalloc_minimal.so.4"},
}

// room makes glibc reserve the thread-local memory that jemalloc needs.
const room = "glibc.rtld.optional_static_tls=16384"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cpeers:", err)
		os.Exit(1)
	}
}

func run() error {
	if tunables := os.Getenv("GLIBC_TUNABLES"); !strings.Contains(tunables, room) {
		if err := os.Setenv("GLIBC_TUNABLES", strings.Trim(tunables+":"+room, ":")); err != nil {
			return err
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		return fmt.Errorf("start %s again: %w", exe, syscall.Exec(exe, os.Args, os.Environ()))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	return bench.Serve(ctx, os.Args[1:], os.Stdin, os.Stdout, peers()...)
}

// peers returns two columns for each library that can be loaded.
func peers() (list []bench.Peer) {
	for _, lib := range libraries {
		l, err := open(lib.file)
		if err != nil {
			fmt.Fprintf(os.Stderr, "cpeers: no column %q: %v\n", lib.name, err)
			continue
		}
		list = append(list, bench.Peer{
			Name: lib.name, What: lib.file + " through cgo", Plain: l.plain,
			Open: func(size int) (bench.PeerHeap, error) { return l.border(size), nil },
		}, bench.Peer{
			Name: lib.name + "-c", What: lib.file + ", the loops in C", Loops: true, Plain: l.plainNative, Native: l.threads(),
			Open: func(size int) (bench.PeerHeap, error) { return &nativeHeap{*l.border(size)}, nil },
		})
	}
	return list
}
