package alloc

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

type point struct {
	X, Y int64
	Next Ref[point]
}

func TestTyped(t *testing.T) {
	a := newAllocator(t, Options{})
	points, err := NewTyped[point](a, "point", CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var head Ref[point]
	for i := range 1000 {
		r := points.AllocRef()
		p := r.Get()
		if *p != (point{}) {
			t.Fatalf("Alloc returned %+v; want zeroes", *p)
		}
		p.X, p.Next = int64(i), head
		head = r
	}
	runtime.GC()
	n := 0
	for !head.IsNil() {
		p := head.Get()
		if want := int64(999 - n); p.X != want {
			t.Fatalf("value %d of the list is %d; want %d", n, p.X, want)
		}
		next := p.Next
		points.FreeRef(head)
		head = next
		n++
	}
	if n != 1000 {
		t.Errorf("the list has %d values; want 1000", n)
	}
	p := points.Alloc()
	if r := RefOf(p); r.Get() != p || r.IsNil() || r != RefOf(p) || r.word>>48 != 0 {
		t.Errorf("RefOf(%p) = %+v, which refers to %p", p, r, r.Get())
	}
	points.Free(p)
	if s := points.Cache().Stats(); s.Objects != 0 {
		t.Errorf("%d objects are live at the end", s.Objects)
	}
}

// Alloc clears values of every size, without a copy of one on the Go heap.
func TestTypedSizes(t *testing.T) {
	a := newAllocator(t, Options{})
	checkCleared[byte](t, a)
	checkCleared[[13]byte](t, a)
	checkCleared[point](t, a)
	checkCleared[[1000]byte](t, a)
	checkCleared[[10_000]uint64](t, a)
	checkCleared[[128 << 10]byte](t, a)
	checkCleared[[128<<10 + 1]byte](t, a)
	checkCleared[[1 << 20]byte](t, a)
	checkCleared[[100_000]point](t, a)
	checkCleared[[maxSize]byte](t, a)
}

func bytesOf[T any](p *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p)) }

func checkCleared[T any](t *testing.T, a *Allocator) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	values, err := NewTyped[T](a, "cleared", CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	first := values.Alloc() // makes the slab
	size := unsafe.Sizeof(*first)
	if n := after.TotalAlloc - before.TotalAlloc; n > 100<<10 {
		t.Errorf("NewTyped of %d bytes takes %d bytes of the Go heap", size, n)
	}
	dirty := func(p *T) {
		for i := range bytesOf(p) {
			bytesOf(p)[i] = 0xa5
		}
		values.Free(p)
	}
	dirty(values.Alloc())
	p := values.Alloc()
	for i, b := range bytesOf(p) {
		if b != 0 {
			t.Fatalf("byte %d of %d is %#x; want 0", i, size, b)
		}
	}
	dirty(p)
	if n := testing.AllocsPerRun(10, func() { values.Free(values.Alloc()) }); n != 0 {
		t.Errorf("a pair of %d bytes = %v allocations on the Go heap; want 0", size, n)
	}
	values.Free(first)
	destroy(t, values.Cache())
}

func TestRef(t *testing.T) {
	var r Ref[point]
	if !r.IsNil() || r.Get() != nil || unsafe.Sizeof(r) != 8 {
		t.Errorf("the zero Ref: nil %v, refers to %v, %d bytes; want true, nil, 8", r.IsNil(), r.Get(), unsafe.Sizeof(r))
	}
	m := map[Ref[point]]int{r: 1}
	if m[RefOf[point](nil)] != 1 {
		t.Error("RefOf(nil) is not the zero Ref")
	}
}

func TestNewTypedRefusesPointers(t *testing.T) {
	type inner struct{ Names []string }
	type bad struct {
		N    int
		Next *point
		In   [3]inner
		M    map[int]int
		Any  any
		S    string
		P    unsafe.Pointer
		F    func()
		C    chan int
		Fine [4]Ref[point]
		None [0]*int
		U    uintptr
	}
	a := newAllocator(t, Options{})
	_, err := NewTyped[bad](a, "bad", CacheOptions{})
	if !errors.Is(err, ErrInvalid) {
		t.Fatalf("NewTyped of a type with pointers: %v; want ErrInvalid", err)
	}
	for _, path := range []string{"bad.Next (", "bad.In[].Names (", "bad.M (", "bad.Any (", "bad.S (", "bad.P (", "bad.F (", "bad.C ("} {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name %q: %v", path, err)
		}
	}
	for _, path := range []string{"bad.N (", "bad.Fine", "bad.None", "bad.U"} {
		if strings.Contains(err.Error(), path) {
			t.Errorf("the error names %q, which holds no pointer: %v", path, err)
		}
	}
	if _, err := NewTyped[struct{}](a, "empty", CacheOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("NewTyped of an empty struct: %v; want ErrInvalid", err)
	}
}

func ExampleNewTyped() {
	a, err := New(Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	type node struct {
		Key         uint64
		Left, Right Ref[node] // a *node would be refused: the collector does not look here
	}
	nodes, err := NewTyped[node](a, "tree-node", CacheOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	root := nodes.Alloc()
	root.Key = 7
	root.Left = nodes.AllocRef()
	root.Left.Get().Key = 3
	fmt.Println(root.Key, root.Left.Get().Key, root.Right.IsNil())
	nodes.FreeRef(root.Left)
	nodes.Free(root)
	fmt.Println(a.Close())
	// Output:
	// 7 3 true
	// <nil>
}

func BenchmarkTyped(b *testing.B) {
	type value [64]byte
	a := newAllocator(b, Options{})
	c, err := NewTyped[value](a, "value", CacheOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("pair", func(b *testing.B) {
		for b.Loop() {
			c.Cache().Free(c.Cache().Alloc())
		}
	})
	b.Run("typed", func(b *testing.B) {
		for b.Loop() {
			c.Free(c.Alloc())
		}
	})
	b.Run("bytes", func(b *testing.B) {
		for b.Loop() {
			a.FreeBytes(a.Bytes(64))
		}
	})
}
