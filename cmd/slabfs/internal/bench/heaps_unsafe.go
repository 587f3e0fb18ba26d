package bench

import (
	"sync/atomic"
	"unsafe"

	"slabfs/alloc"
)

// A ref is an object, or nil.
type ref = unsafe.Pointer

// kept holds the last object of a loop, so that the compiler must allocate all
// objects on the heap.
var kept unsafe.Pointer

func keep(obj ref) { atomic.StorePointer(&kept, obj) }

// view returns the first n bytes of an object.
func view(obj ref, n int) []byte { return unsafe.Slice((*byte)(obj), n) }

// wordsOf views a slice of bytes as words.
func wordsOf(b []byte) []uint64 {
	if len(b) < 8 {
		return nil // a word would reach beyond the object
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

// touch writes to each object, as a user would.
func touch(objs []ref) {
	for _, obj := range objs {
		*(*byte)(obj) = 1
	}
}

// A slabHeap is a cache.
type slabHeap struct{ c *alloc.Cache }

func openSlab(a *alloc.Allocator, name string, size int) (heap, error) {
	c, err := a.NewCache(name, size, alloc.CacheOptions{})
	if err != nil {
		return nil, err
	}
	return &slabHeap{c}, nil
}

func (h *slabHeap) pairs(n int) {
	c := h.c
	for range n {
		c.Free(c.Alloc())
	}
}

func (h *slabHeap) fill(objs []ref) {
	c := h.c
	for i := range objs {
		objs[i] = c.Alloc()
	}
}

func (h *slabHeap) drain(objs []ref) {
	c := h.c
	for _, obj := range objs {
		c.Free(obj)
	}
}

func (h *slabHeap) bulk(objs []ref, n int) {
	c := h.c
	for range n {
		c.AllocBulk(objs)
		c.FreeBulk(objs)
	}
}

func (h *slabHeap) alloc() ref   { return h.c.Alloc() }
func (h *slabHeap) free(obj ref) { h.c.Free(obj) }
func (h *slabHeap) trim()        { h.c.Shrink() }
func (h *slabHeap) close() error { return h.c.Destroy() }

// A localHeap is a goroutine's own sheaf of a cache.
type localHeap[T any] struct {
	values *alloc.Typed[T]
	l      *alloc.Local[T]
}

func newLocal[T any](a *alloc.Allocator, name string) (heap, error) {
	values, err := alloc.NewTyped[T](a, name, alloc.CacheOptions{})
	if err != nil {
		return nil, err
	}
	return &localHeap[T]{values, values.Local()}, nil
}

func (h *localHeap[T]) pairs(n int) {
	l := h.l
	for range n {
		l.Free(l.Alloc())
	}
}

func (h *localHeap[T]) fill(objs []ref) {
	l := h.l
	for i := range objs {
		objs[i] = ref(l.Alloc())
	}
}

func (h *localHeap[T]) drain(objs []ref) {
	l := h.l
	for _, obj := range objs {
		l.Free((*T)(obj))
	}
}

func (h *localHeap[T]) alloc() ref   { return ref(h.l.Alloc()) }
func (h *localHeap[T]) free(obj ref) { h.l.Free((*T)(obj)) }

func (h *localHeap[T]) trim() {
	h.l.Return()
	h.values.Cache().Shrink()
}

func (h *localHeap[T]) close() error {
	h.l.Return()
	return h.values.Cache().Destroy()
}

func keepBytes(b []byte) { keep(ref(unsafe.SliceData(b))) }

// set writes to each of the first n bytes of an object, word by word. The
// compiler makes no memset of a loop over bytes.
func set(obj ref, n int, to byte) {
	b := view(obj, n)
	for i := 0; i+8 <= n; i += 8 {
		*(*uint64)(unsafe.Add(obj, i)) = 0x0101010101010101 * uint64(to)
	}
	for i := n &^ 7; i < n; i++ {
		b[i] = to
	}
}

// alignment returns how many bytes of mem lie before its first multiple of to.
func alignment(mem []byte, to uintptr) uintptr {
	return -uintptr(unsafe.Pointer(unsafe.SliceData(mem))) & (to - 1)
}
