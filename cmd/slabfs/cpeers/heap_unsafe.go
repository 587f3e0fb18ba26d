package main

/*
#cgo CFLAGS: -O2
#cgo LDFLAGS: -ldl
#cgo noescape peer_malloc
#cgo noescape peer_free
#cgo noescape peer_pairs
#cgo noescape peer_fill
#cgo noescape peer_drain
#cgo nocallback peer_malloc
#cgo nocallback peer_free
#cgo nocallback peer_pairs
#cgo nocallback peer_fill
#cgo nocallback peer_drain
#include <stdlib.h>
#include "peer.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"testing"
	"unsafe"
)

// A library is a C allocator.
type library struct{ peer C.struct_peer }

func open(name string) (*library, error) {
	file := C.CString(name)
	defer C.free(unsafe.Pointer(file))
	l := new(library)
	if wrong := C.peer_open(&l.peer, file); wrong != nil {
		return nil, fmt.Errorf("load %s: %w", name, errors.New(C.GoString(wrong)))
	}
	return l, nil
}

func (l *library) border(size int) *borderHeap { return &borderHeap{l, C.size_t(size)} }

// plain runs pairs of 64 bytes through cgo.
func (l *library) plain(b *testing.B) {
	for range b.N {
		C.peer_free(&l.peer, C.peer_malloc(&l.peer, 64))
	}
}

// plainNative runs pairs of 64 bytes in C.
func (l *library) plainNative(b *testing.B) { C.peer_pairs(&l.peer, 64, C.long(b.N)) }

// A borderHeap makes a cgo call for each operation.
type borderHeap struct {
	*library
	size C.size_t
}

func (h *borderHeap) Pairs(n int) {
	for range n {
		C.peer_free(&h.peer, C.peer_malloc(&h.peer, h.size))
	}
}

func (h *borderHeap) Fill(objs []unsafe.Pointer) {
	for i := range objs {
		objs[i] = C.peer_malloc(&h.peer, h.size)
	}
}

func (h *borderHeap) Drain(objs []unsafe.Pointer) {
	for _, obj := range objs {
		C.peer_free(&h.peer, obj)
	}
}

func (h *borderHeap) Alloc() unsafe.Pointer   { return C.peer_malloc(&h.peer, h.size) }
func (h *borderHeap) Free(obj unsafe.Pointer) { C.peer_free(&h.peer, obj) }
func (h *borderHeap) Trim()                   {} // the libraries have no call for it in common
func (h *borderHeap) Close() error            { return nil }

// A nativeHeap makes one cgo call for each loop.
type nativeHeap struct{ borderHeap }

func (h *nativeHeap) Pairs(n int) { C.peer_pairs(&h.peer, h.size, C.long(n)) }

func (h *nativeHeap) Fill(objs []unsafe.Pointer) {
	C.peer_fill(&h.peer, h.size, unsafe.SliceData(objs), C.long(len(objs)))
}

func (h *nativeHeap) Drain(objs []unsafe.Pointer) {
	C.peer_drain(&h.peer, unsafe.SliceData(objs), C.long(len(objs)))
}
