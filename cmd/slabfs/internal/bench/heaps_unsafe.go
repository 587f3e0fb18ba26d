package bench

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/bytedance/gopkg/lang/mcache"
	"modernc.org/memory"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

// A ref is an object, or nil.
type ref = unsafe.Pointer

// kept is where loops leave their last object, so that the compiler must put all on the heap.
var kept unsafe.Pointer

func keep(obj ref) { atomic.StorePointer(&kept, obj) }

// view returns the first n bytes of an object.
func view(obj ref, n int) []byte { return unsafe.Slice((*byte)(obj), n) }

// wordsOf returns a slice of bytes as words.
func wordsOf(b []byte) []uint64 {
	if len(b) < 8 {
		return nil // a pointer to a word would point behind the object too
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

// touch writes to each object, as who allocates one does.
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

// garbage is what the allocators of the Go heap have in common.
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

// A shape is the heaps of objects whose size the compiler knows.
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

// moderncClass is that of the mutex which a user of modernc.org/memory puts around it.
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

// A poolBytes is a sync.Pool for each power of two. A pool of pointers to arrays
// needs no allocation for what it takes, one of slices would.
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

func keepBytes(b []byte) { keep(ref(unsafe.SliceData(b))) }

// set writes to each of the first n bytes of an object, by words: the compiler makes no memset of a loop over bytes.
func set(obj ref, n int, to byte) {
	b := view(obj, n)
	for i := 0; i+8 <= n; i += 8 {
		*(*uint64)(unsafe.Add(obj, i)) = 0x0101010101010101 * uint64(to)
	}
	for i := n &^ 7; i < n; i++ {
		b[i] = to
	}
}

// alignment returns how many bytes of mem lie before the first multiple of to.
func alignment(mem []byte, to uintptr) uintptr {
	return -uintptr(unsafe.Pointer(unsafe.SliceData(mem))) & (to - 1)
}
