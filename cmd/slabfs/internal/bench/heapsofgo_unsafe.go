package bench

import (
	"sync"
	"unsafe"

	"slabfs/alloc"
)

// Heaps that Go has: new, and pools of objects that new made.

// garbage is the common part of the allocators on the Go heap.
type garbage struct{}

func (garbage) trim()        { scavenge() }
func (garbage) close() error { return nil }

// A poolHeap is a sync.Pool.
type poolHeap[T any] struct {
	garbage
	p sync.Pool
}

func newPool[T any]() heap { return &poolHeap[T]{p: sync.Pool{New: func() any { return new(T) }}} }

func (h *poolHeap[T]) pairs(n int) {
	for range n {
		h.p.Put(h.p.Get().(*T))
	}
}

func (h *poolHeap[T]) fill(objs []ref) {
	for i := range objs {
		objs[i] = ref(h.p.Get().(*T))
	}
}

func (h *poolHeap[T]) drain(objs []ref) {
	for _, obj := range objs {
		h.p.Put((*T)(obj))
	}
}

func (h *poolHeap[T]) alloc() ref   { return ref(h.p.Get().(*T)) }
func (h *poolHeap[T]) free(obj ref) { h.p.Put((*T)(obj)) }

// A newHeap is the Go heap.
type newHeap[T any] struct{ garbage }

func newNew[T any]() heap { return &newHeap[T]{} }

func (h *newHeap[T]) pairs(n int) {
	var obj *T
	for range n {
		obj = new(T)
	}
	keep(ref(obj))
}

func (h *newHeap[T]) fill(objs []ref) {
	for i := range objs {
		objs[i] = ref(new(T))
	}
}

func (h *newHeap[T]) drain(objs []ref) { clear(objs) }

func (h *newHeap[T]) alloc() ref { return ref(new(T)) }
func (h *newHeap[T]) free(ref)   {}

// A chanHeap is the Go heap behind a channel of free objects, as in "Effective Go".
type chanHeap[T any] struct {
	garbage
	c chan *T
}

func newChannel[T any]() heap { return &chanHeap[T]{c: make(chan *T, room)} }

func (h *chanHeap[T]) get() *T {
	select {
	case obj := <-h.c:
		return obj
	default:
		return new(T)
	}
}

func (h *chanHeap[T]) put(obj *T) {
	select {
	case h.c <- obj:
	default:
	}
}

func (h *chanHeap[T]) pairs(n int) {
	for range n {
		h.put(h.get())
	}
}

func (h *chanHeap[T]) fill(objs []ref) {
	for i := range objs {
		objs[i] = ref(h.get())
	}
}

func (h *chanHeap[T]) drain(objs []ref) {
	for _, obj := range objs {
		h.put((*T)(obj))
	}
}

func (h *chanHeap[T]) alloc() ref   { return ref(h.get()) }
func (h *chanHeap[T]) free(obj ref) { h.put((*T)(obj)) }

func (h *chanHeap[T]) trim() {
	empty(h.c)
	scavenge()
}

// A shape makes the heaps for a size that the compiler knows.
type shape struct {
	pool, fresh, channel func() heap
	local                func(a *alloc.Allocator, name string) (heap, error)
}

func shapeOf[T any]() shape { return shape{newPool[T], newNew[T], newChannel[T], newLocal[T]} }

var shapes = map[int]shape{
	1: shapeOf[[1]byte](), 8: shapeOf[[8]byte](), 16: shapeOf[[16]byte](), 32: shapeOf[[32]byte](), 64: shapeOf[[64]byte](),
	128: shapeOf[[128]byte](), 256: shapeOf[[256]byte](), 512: shapeOf[[512]byte](), freerSize: shapeOf[[freerSize]byte](),
	1024: shapeOf[[1024]byte](), 2048: shapeOf[[2048]byte](), 4096: shapeOf[[4096]byte](), 8192: shapeOf[[8192]byte](),
	16384: shapeOf[[16384]byte](),
}

func openPool(_ *alloc.Allocator, _ string, size int) (heap, error) { return shapes[size].pool(), nil }

func openLocal(a *alloc.Allocator, name string, size int) (heap, error) {
	return shapes[size].local(a, name)
}

func openNew(_ *alloc.Allocator, _ string, size int) (heap, error) { return shapes[size].fresh(), nil }

func openChannel(_ *alloc.Allocator, _ string, size int) (heap, error) {
	return shapes[size].channel(), nil
}

// A poolBytes is a sync.Pool for each power of two. The pools hold pointers to
// arrays, because putting a slice into a pool would allocate.
type poolBytes struct {
	garbage
	p [64]sync.Pool
}

func openPoolBytes(*alloc.Allocator) bytesHeap {
	h := new(poolBytes)
	for i := range h.p {
		h.p[i].New = func() any { return unsafe.SliceData(make([]byte, 1<<i)) }
	}
	return h
}

func (h *poolBytes) pairs(n, size int) {
	for range n {
		h.free(h.alloc(size))
	}
}

func (h *poolBytes) alloc(size int) []byte {
	i := class(size)
	return unsafe.Slice(h.p[i].Get().(*byte), 1<<i)[:size]
}

func (h *poolBytes) free(b []byte) { h.p[class(cap(b))].Put(unsafe.SliceData(b)) }
