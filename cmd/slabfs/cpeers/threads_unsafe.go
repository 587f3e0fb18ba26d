package main

// #include "threads.h"
import "C"

import (
	"fmt"
	"math/rand/v2"
	"time"

	"slabfs/cmd/slabfs/internal/bench"
)

// threads returns the workloads that run on threads of C.
func (l *library) threads() map[string]func(int) bench.Native {
	return map[string]func(int) bench.Native{
		"xmalloc": func(n int) bench.Native { return &xmalloc{l, C.int(max(n/2, 1))} },
		"larson":  func(n int) bench.Native { return &larson{library: l, threads: C.int(n)} },
	}
}

type xmalloc struct {
	*library
	pairs C.int
}

func (x *xmalloc) Prepare() {}
func (x *xmalloc) Clean()   {}

func (x *xmalloc) Run(d time.Duration) (int, error) {
	moved := C.xmalloc_run(&x.peer, x.pairs, C.long(d))
	if moved.made != moved.freed {
		return 0, fmt.Errorf("%d objects were allocated and %d freed", moved.made, moved.freed)
	}
	return int(moved.freed), nil
}

type larson struct {
	*library
	threads C.int
	server  *C.struct_larson
}

func (l *larson) Prepare() { l.server = C.larson_new(&l.peer, l.threads, C.uint64_t(rand.Uint64())) }
func (l *larson) Clean()   { C.larson_free(l.server) }

func (l *larson) Run(d time.Duration) (int, error) {
	return int(C.larson_run(l.server, C.long(d))), nil
}
