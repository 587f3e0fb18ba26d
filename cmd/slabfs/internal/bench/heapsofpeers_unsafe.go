package bench

import (
	"unsafe"

	"github.com/bytedance/gopkg/lang/mcache"
	"modernc.org/memory"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

// Heaps of Go libraries that do what slabfs does.

// An mcacheHeap is mcache, which has one pool for each power of two.
type mcacheHeap struct {
	garbage
	size, cap int
}

func openMcache(_ *alloc.Allocator, _ string, size int) (heap, error) {
	b := mcache.Malloc(size)
	defer mcache.Free(b)
	return &mcacheHeap{size: size, cap: cap(b)}, nil
}

func (h *mcacheHeap) pairs(n int) {
	for range n {
		mcache.Free(mcache.Malloc(h.size))
	}
}

func (h *mcacheHeap) fill(objs []ref) {
	for i := range objs {
		objs[i] = h.alloc()
	}
}

func (h *mcacheHeap) drain(objs []ref) {
	for _, obj := range objs {
		h.free(obj)
	}
}

func (h *mcacheHeap) alloc() ref   { return ref(unsafe.SliceData(mcache.Malloc(h.size))) }
func (h *mcacheHeap) free(obj ref) { mcache.Free(unsafe.Slice((*byte)(obj), h.cap)) }

// A moderncHeap is a memory.Allocator, for one goroutine.
type moderncHeap struct {
	m    memory.Allocator
	size int
}

func openModernc(_ *alloc.Allocator, _ string, size int) (heap, error) {
	return &moderncHeap{size: size}, nil
}

func (h *moderncHeap) pairs(n int) {
	for range n {
		h.free(h.alloc())
	}
}

func (h *moderncHeap) fill(objs []ref) {
	for i := range objs {
		objs[i] = h.alloc()
	}
}

func (h *moderncHeap) drain(objs []ref) {
	for _, obj := range objs {
		h.free(obj)
	}
}

func (h *moderncHeap) alloc() ref {
	obj, err := h.m.UnsafeMalloc(h.size)
	if err != nil {
		return nil
	}
	return obj
}

func (h *moderncHeap) free(obj ref) { must(h.m.UnsafeFree(obj)) }
func (h *moderncHeap) trim()        { must(h.m.Trim()) }
func (h *moderncHeap) close() error { return h.m.Close() }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// moderncClass is the class of the mutex that a user of modernc.org/memory
// adds.
var moderncClass = lockdep.NewClass("bench modernc")

// A moderncLocked is a memory.Allocator under a mutex.
type moderncLocked struct {
	mu   lockdep.Mutex
	m    memory.Allocator
	size int
}

func openModerncLocked(_ *alloc.Allocator, _ string, size int) (heap, error) {
	h := &moderncLocked{size: size}
	h.mu.Init(moderncClass)
	return h, nil
}

func (h *moderncLocked) pairs(n int) {
	for range n {
		h.mu.Lock()
		obj, err := h.m.UnsafeMalloc(h.size)
		h.mu.Unlock()
		must(err)
		h.mu.Lock()
		err = h.m.UnsafeFree(obj)
		h.mu.Unlock()
		must(err)
	}
}

func (h *moderncLocked) fill(objs []ref) {
	for i := range objs {
		h.mu.Lock()
		obj, err := h.m.UnsafeMalloc(h.size)
		h.mu.Unlock()
		if err != nil {
			obj = nil
		}
		objs[i] = obj
	}
}

func (h *moderncLocked) drain(objs []ref) {
	for _, obj := range objs {
		h.mu.Lock()
		err := h.m.UnsafeFree(obj)
		h.mu.Unlock()
		must(err)
	}
}

func (h *moderncLocked) alloc() ref {
	h.mu.Lock()
	obj, err := h.m.UnsafeMalloc(h.size)
	h.mu.Unlock()
	if err != nil {
		return nil
	}
	return obj
}

func (h *moderncLocked) free(obj ref) {
	h.mu.Lock()
	err := h.m.UnsafeFree(obj)
	h.mu.Unlock()
	must(err)
}

func (h *moderncLocked) trim() {
	h.mu.Lock()
	defer h.mu.Unlock()
	must(h.m.Trim())
}

func (h *moderncLocked) close() error { return h.m.Close() }
