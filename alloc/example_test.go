package alloc_test

import (
	"errors"
	"fmt"
	"unsafe"

	"slabfs/alloc"
)

type point struct{ x, y int64 }

func newAllocator(o alloc.Options) *alloc.Allocator {
	a, err := alloc.New(o)
	if err != nil {
		panic(err)
	}
	return a
}

func ExampleAllocator_NewCache() {
	a := newAllocator(alloc.Options{})
	defer a.Close()
	points, err := a.NewCache("points", int(unsafe.Sizeof(point{})), alloc.CacheOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	p := (*point)(points.AllocZeroed())
	p.x = 3
	fmt.Println(*p, points.Stats().Objects)
	points.Free(unsafe.Pointer(p))
	fmt.Println(points.Destroy())
	// Output:
	// {3 0} 1
	// <nil>
}

// A cache with live objects is not destroyed.
func ExampleCache_Destroy() {
	a := newAllocator(alloc.Options{})
	defer a.Close()
	points, _ := a.NewCache("points", 16, alloc.CacheOptions{})
	p := points.Alloc()
	err := points.Destroy()
	fmt.Println(errors.Is(err, alloc.ErrBusy), err)
	points.Free(p)
	fmt.Println(points.Destroy())
	// Output:
	// true destroy cache "points": 1 objects are in use: objects are live
	// <nil>
}

func ExampleAllocator_Bytes() {
	a := newAllocator(alloc.Options{})
	defer a.Close()
	b := a.Bytes(100)
	fmt.Println(len(b), cap(b))
	b = append(b[:0], "grows in place up to its capacity"...)
	fmt.Printf("%s\n", b)
	a.FreeBytes(b)
	// Output:
	// 100 128
	// grows in place up to its capacity
}

// Many objects at once: all of them, or none at the memory limit.
func ExampleCache_AllocBulk() {
	a := newAllocator(alloc.Options{})
	defer a.Close()
	c, _ := a.NewCache("bulk", 64, alloc.CacheOptions{})
	objs := make([]unsafe.Pointer, 1000)
	fmt.Println(c.AllocBulk(objs), c.Stats().Objects)
	c.FreeBulk(objs)
	fmt.Println(c.Stats().Objects)
	// Output:
	// true 1000
	// 0
}

// What is free anywhere is found before the limit is reported, and what is
// freed can be had again.
func ExampleAllocator_SetMemoryLimit() {
	a := newAllocator(alloc.Options{})
	defer a.Close()
	a.SetMemoryLimit(1 << 20)
	c, _ := a.NewCache("limited", 1024, alloc.CacheOptions{})
	var objs []unsafe.Pointer
	for obj := c.Alloc(); obj != nil; obj = c.Alloc() {
		objs = append(objs, obj)
	}
	fmt.Println(len(objs), a.MemoryUsed())
	c.FreeBulk(objs)
	fmt.Println(len(a.Bytes(1<<20)), a.MemoryUsed())
	// Output:
	// 1024 1048576
	// 1048576 1048576
}

// A worker that must not fail half way takes what it needs before it begins.
func ExampleLocal_Prefill() {
	a := newAllocator(alloc.Options{MemoryLimit: 1 << 20})
	defer a.Close()
	points, _ := alloc.NewTyped[point](a, "points", alloc.CacheOptions{})
	l := points.Local()
	defer l.Return()
	if !l.Prefill(2) {
		fmt.Println("the memory limit is reached: nothing has begun")
		return
	}
	p, q := l.Alloc(), l.Alloc() // neither is nil
	*p, *q = point{1, 2}, point{3, 4}
	fmt.Println(*p, *q)
	l.Free(p)
	l.Free(q)
	// Output:
	// {1 2} {3 4}
}
