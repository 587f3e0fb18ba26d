package alloc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// programSizes are the sizes of the caches that programs are run on.
var programSizes = []struct {
	size int
	o    CacheOptions
}{
	{64, CacheOptions{}}, {1, CacheOptions{}}, {24, CacheOptions{Align: 16}}, {96, CacheOptions{Flags: HWCacheAlign}},
	{256, CacheOptions{}}, {700, CacheOptions{}}, {1000, CacheOptions{}}, {2048, CacheOptions{}},
	{4096, CacheOptions{}}, {9000, CacheOptions{Flags: ReclaimAccount}}, {40_000, CacheOptions{}},
}

// A world is an allocator beside what a program knows about it.
type world struct {
	t     *testing.T
	a     *Allocator
	c     *Cache
	next  int // size of the next cache
	live  []unsafe.Pointer
	stamp map[unsafe.Pointer]uint64
	bytes [][]byte
	count uint64
}

func (w *world) newCache() {
	s := programSizes[w.next%len(programSizes)]
	w.next++
	w.c = newCache(w.t, w.a, "program", s.size, s.o)
}

// own notes that objects were handed out.
func (w *world) own(objs ...unsafe.Pointer) {
	for _, obj := range objs {
		if w.stamp[obj] != 0 {
			w.t.Fatalf("object %p is handed out while it is live", obj)
		}
		w.count++
		w.stamp[obj] = w.count
		stamp(bytesAt(obj, w.c.ObjectSize()), w.count)
		w.live = append(w.live, obj)
	}
}

// disown takes n live objects from i on, which must be as they were left.
func (w *world) disown(i, n int) []unsafe.Pointer {
	if len(w.live) == 0 {
		return nil
	}
	i %= len(w.live)
	n = min(n, len(w.live)-i)
	objs := append([]unsafe.Pointer(nil), w.live[i:i+n]...)
	w.live = append(w.live[:i], w.live[i+n:]...)
	for _, obj := range objs {
		if !stamped(bytesAt(obj, w.c.ObjectSize()), w.stamp[obj]) {
			w.t.Fatalf("object %p was overwritten", obj)
		}
		delete(w.stamp, obj)
	}
	return objs
}

// refused checks that an allocation of that many bytes of pages had to fail.
func (w *world) refused(bytes int) {
	limit := w.a.MemoryLimit()
	if limit == 0 {
		w.t.Fatal("nil without a limit")
	}
	for _, c := range w.a.Caches() {
		c.Shrink()
	}
	if used := w.a.MemoryUsed(); used+int64(bytes) <= limit {
		w.t.Fatalf("nil, with %d of %d bytes used and %d wanted", used, limit, bytes)
	}
}

// step runs one operation.
func (w *world) step(op byte, arg int) {
	k := w.c.core
	switch op % 13 {
	case 0, 1:
		for range 1 + arg%8 {
			obj := w.c.Alloc()
			if obj == nil {
				w.refused(slabBytes(k.order))
				return
			}
			w.own(obj)
		}
	case 2:
		if obj := w.c.AllocZeroed(); obj != nil {
			for i, b := range bytesAt(obj, w.c.ObjectSize()) {
				if b != 0 {
					w.t.Fatalf("byte %d of a zeroed object is %#x", i, b)
				}
			}
			w.own(obj)
		}
	case 3, 4:
		for range 1 + arg%8 {
			freeAll(w.c, w.disown(arg, 1))
		}
	case 5:
		objs := make([]unsafe.Pointer, arg)
		if w.c.AllocBulk(objs) {
			w.own(objs...)
			break
		}
		for i, obj := range objs {
			if obj != nil {
				w.t.Fatalf("AllocBulk returned false and object %d", i)
			}
		}
	case 6:
		w.c.FreeBulk(w.disown(arg, arg))
	case 7:
		w.c.Shrink()
		checkRest(w.t, w.c, w.live)
		if s := w.c.Stats(); s.Cached != 0 || s.CPUSlabs != 0 || s.Slabs > 0 && s.Objects == 0 {
			w.t.Fatalf("after Shrink: %+v", s)
		}
	case 8:
		if err := w.c.SetCPUPartial(uint(arg)); err != nil {
			w.t.Fatal(err)
		}
		checkRest(w.t, w.c, w.live)
		s := w.c.Stats()
		if s.CPUPartial != 0 || s.CPUSlabs != 0 || s.Cached != 0 || s.Objects != s.TotalObjects-s.Partial*s.ObjectsPerSlab+s.ObjectsPartial {
			w.t.Fatalf("after SetCPUPartial: %+v", s)
		}
	case 9:
		if arg < 128 {
			w.c.SetMinPartial(uint64(arg % 8))
			break
		}
		capacity := (arg - 128) % (k.sheafMax + 1)
		if err := w.c.SetSheafCapacity(uint(capacity)); err != nil {
			w.t.Fatal(err)
		}
		checkRest(w.t, w.c, w.live)
		if s := w.c.Stats(); s.Cached != 0 || s.CPUSlabs != 0 || s.SheafCapacity != capacity {
			w.t.Fatalf("after SetSheafCapacity(%d): %+v", capacity, s)
		}
	case 10:
		switch {
		case arg == 255:
			w.destroy()
		case arg%4 == 0:
			w.a.SetMemoryLimit(0)
		default:
			w.a.SetMemoryLimit(w.a.MemoryUsed() + int64(arg)<<10)
		}
	case 11:
		if arg%2 == 0 && len(w.bytes) > 0 {
			w.freeBytes(arg)
		} else {
			w.newBytes(arg * arg)
		}
	case 12:
		h := w.a.Hotplug()
		cpus := slices.Collect(h.Possible().All())
		n, online := cpus[arg/2%len(cpus)], arg%2 == 0
		last := h.Online().Has(n) && h.Online().Count() == 1 && !online
		if err := w.a.SetOnline(n, online); last != errors.Is(err, ErrBusy) || !last && (err != nil || h.Online().Has(n) != online) {
			w.t.Fatalf("SetOnline(%d, %v): %v; online are %v now", n, online, err, h.Online())
		}
		checkRest(w.t, w.c, w.live)
	}
}

func (w *world) newBytes(n int) {
	b := w.a.Bytes(n)
	if b == nil {
		if w.a.MemoryLimit() == 0 {
			w.t.Fatalf("Bytes(%d) = nil without a limit", n)
		}
		return
	}
	if len(b) != n || cap(b) < n {
		w.t.Fatalf("Bytes(%d) has length %d and capacity %d", n, len(b), cap(b))
	}
	w.bytes = append(w.bytes, b)
	stamp(b[:cap(b)], uint64(address(b)))
}

func (w *world) freeBytes(i int) {
	i %= len(w.bytes)
	b := w.bytes[i]
	w.bytes[i] = w.bytes[len(w.bytes)-1]
	w.bytes = w.bytes[:len(w.bytes)-1]
	if !stamped(b[:cap(b)], uint64(address(b))) {
		w.t.Fatalf("bytes at %#x were overwritten", address(b))
	}
	w.a.FreeBytes(b)
}

// destroy ends the cache, or finds it busy, and goes on with another one.
func (w *world) destroy() {
	err := w.c.Destroy()
	if n := len(w.live); n > 0 {
		if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf(" %d objects ", n)) {
			w.t.Fatalf("Destroy with %d live objects: %v; want ErrBusy", n, err)
		}
		checkRest(w.t, w.c, w.live)
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if s := w.c.Stats(); s.Slabs != 0 || s.Objects != 0 || s.Cached != 0 || s.CPUSlabs != 0 {
		w.t.Fatalf("Stats after Destroy: %+v", s)
	}
	mustPanic(w.t, func() { w.c.Alloc() }, "program")
	w.newCache()
}

// runProgram reads its input as a program: the first byte chooses a size, then
// each two are an operation and its argument.
func runProgram(t *testing.T, prog []byte) {
	if len(prog) == 0 {
		return
	}
	w := &world{t: t, a: newAllocator(t, Options{}), next: int(prog[0]), stamp: make(map[unsafe.Pointer]uint64)}
	w.newCache()
	for pc := 1; pc+1 < len(prog); pc += 2 {
		w.step(prog[pc], int(prog[pc+1]))
		if n := new(tally); n.allocs(w.c)-n.frees(w.c) != int64(len(w.live)) {
			t.Fatalf("op %d: %d objects counted that were handed out, %d that were taken back, but %d are live", pc, n.allocs(w.c), n.frees(w.c), len(w.live))
		}
	}
	checkRest(t, w.c, w.live)
	for _, c := range w.a.kmalloc {
		n := 0
		for _, b := range w.bytes {
			if cap(b) == c.ObjectSize() {
				n++
			}
		}
		if got := c.Stats().Objects; got != n {
			t.Fatalf("%s has %d objects; want %d", c.Name(), got, n)
		}
	}
	for len(w.live) > 0 {
		w.c.FreeBulk(w.disown(0, 100))
	}
	for len(w.bytes) > 0 {
		w.freeBytes(0)
	}
	w.a.SetMemoryLimit(0)
	checkRest(t, w.c, nil)
	w.destroy()
	if err := w.a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPrograms(t *testing.T) {
	r := random(t)
	for i := range scaled(400) {
		prog := make([]byte, 2+r.IntN(200))
		for j := range prog {
			prog[j] = byte(r.Uint32())
		}
		if !t.Run(fmt.Sprint(i), func(t *testing.T) { runProgram(t, prog) }) {
			t.Fatalf("program %q", prog)
		}
	}
}

func FuzzCache(f *testing.F) {
	f.Add([]byte{0, 5, 200, 6, 100, 8, 0, 3, 7, 10, 255, 7, 0})
	f.Add([]byte{1, 5, 255, 5, 255, 5, 255, 3, 3, 3, 9, 8, 4, 2, 0})
	f.Add([]byte{9, 10, 20, 0, 7, 0, 7, 0, 7, 11, 201, 3, 0, 11, 0, 10, 0, 0, 1})
	f.Add([]byte{0, 5, 200, 12, 3, 3, 9, 0, 7, 12, 0, 12, 1, 6, 200, 12, 2})
	f.Fuzz(func(t *testing.T, prog []byte) { runProgram(t, prog[:min(len(prog), 400)]) })
}
