package bench

import (
	"math/bits"

	"github.com/bytedance/gopkg/lang/mcache"
	"modernc.org/memory"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

// A slice of 64 bytes is allocated and freed, as for a request's buffer. Our own.
var bytesPair = &workload{
	name: "bytes", what: "allocate and free a slice of 64 bytes", units: []unit{nsPerOp}, usual: true,
	slices: true,
	open: func(e *env) (*cell, error) {
		h := e.bytes()
		c := &cell{destroy: h.close}
		c.measure = c.timeLoop(1, func(n int) { h.pairs(n, 64) })
		return c, nil
	},
}

// class returns the binary logarithm of size, rounded up.
func class(size int) int { return bits.Len(uint(size - 1)) }

// A kmallocBytes is Allocator.Bytes.
type kmallocBytes struct{ a *alloc.Allocator }

func openKmalloc(a *alloc.Allocator) bytesHeap { return &kmallocBytes{a} }

func (h *kmallocBytes) pairs(n, size int) {
	a := h.a
	for range n {
		a.FreeBytes(a.Bytes(size))
	}
}

func (h *kmallocBytes) alloc(size int) []byte { return h.a.Bytes(size) }
func (h *kmallocBytes) free(b []byte)         { h.a.FreeBytes(b) }
func (h *kmallocBytes) close() error          { return nil }

func (h *kmallocBytes) trim() {
	for _, c := range h.a.Caches() {
		c.Shrink()
	}
}

// A makeBytes is the Go heap.
type makeBytes struct{ garbage }

func openMake(*alloc.Allocator) bytesHeap { return &makeBytes{} }

func (h *makeBytes) pairs(n, size int) {
	var b []byte
	for range n {
		b = make([]byte, size)
	}
	keepBytes(b)
}

func (h *makeBytes) alloc(size int) []byte { return make([]byte, size) }
func (h *makeBytes) free([]byte)           {}

// bytesRoom is how many free slices a channel holds.
const bytesRoom = 1000

// A chanBytes is the Go heap behind a channel of free slices for each power of two.
type chanBytes struct {
	garbage
	c [32]chan []byte
}

func openChannelBytes(*alloc.Allocator) bytesHeap {
	h := new(chanBytes)
	for i := range h.c {
		h.c[i] = make(chan []byte, bytesRoom)
	}
	return h
}

func (h *chanBytes) pairs(n, size int) {
	for range n {
		h.free(h.alloc(size))
	}
}

func (h *chanBytes) alloc(size int) []byte {
	i := class(size)
	select {
	case b := <-h.c[i]:
		return b[:size]
	default:
		return make([]byte, size, 1<<i)
	}
}

func (h *chanBytes) free(b []byte) {
	select {
	case h.c[class(cap(b))] <- b:
	default:
	}
}

func (h *chanBytes) trim() {
	for _, c := range h.c {
		empty(c)
	}
	scavenge()
}

// An mcacheBytes is mcache.
type mcacheBytes struct{ garbage }

func openMcacheBytes(*alloc.Allocator) bytesHeap { return &mcacheBytes{} }

func (h *mcacheBytes) pairs(n, size int) {
	for range n {
		mcache.Free(mcache.Malloc(size))
	}
}

func (h *mcacheBytes) alloc(size int) []byte { return mcache.Malloc(size) }
func (h *mcacheBytes) free(b []byte)         { mcache.Free(b) }

// A moderncBytes is a memory.Allocator, for one goroutine.
type moderncBytes struct{ m memory.Allocator }

func openModerncBytes(*alloc.Allocator) bytesHeap { return &moderncBytes{} }

func (h *moderncBytes) pairs(n, size int) {
	for range n {
		h.free(h.alloc(size))
	}
}

func (h *moderncBytes) alloc(size int) []byte {
	b, err := h.m.Malloc(size)
	if err != nil {
		return nil
	}
	return b
}

func (h *moderncBytes) free(b []byte) { must(h.m.Free(b)) }
func (h *moderncBytes) trim()         { must(h.m.Trim()) }
func (h *moderncBytes) close() error  { return h.m.Close() }

// A moderncLockedBytes is a memory.Allocator under a mutex.
type moderncLockedBytes struct {
	mu lockdep.Mutex
	m  moderncBytes
}

func openModerncLockedBytes(*alloc.Allocator) bytesHeap {
	h := new(moderncLockedBytes)
	h.mu.Init(moderncClass)
	return h
}

func (h *moderncLockedBytes) pairs(n, size int) {
	for range n {
		h.mu.Lock()
		b, err := h.m.m.Malloc(size)
		h.mu.Unlock()
		must(err)
		h.mu.Lock()
		err = h.m.m.Free(b)
		h.mu.Unlock()
		must(err)
	}
}

func (h *moderncLockedBytes) alloc(size int) []byte {
	h.mu.Lock()
	b := h.m.alloc(size)
	h.mu.Unlock()
	return b
}

func (h *moderncLockedBytes) free(b []byte) {
	h.mu.Lock()
	err := h.m.m.Free(b)
	h.mu.Unlock()
	must(err)
}

func (h *moderncLockedBytes) trim() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.m.trim()
}

func (h *moderncLockedBytes) close() error { return h.m.close() }
