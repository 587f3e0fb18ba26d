package alloc_test

import (
	"errors"
	"fmt"
	"sync/atomic"
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
	// true destroy cache "points": 1 objects are in use: busy
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

// A session is found without a lock. It is free when nobody has a reference.
type session struct {
	refs atomic.Int64
	id   atomic.Uint64
}

type sessions struct {
	a     *alloc.Allocator
	cache *alloc.Cache
	table [8]atomic.Pointer[session]
}

// add makes a session. A reader may look at the object already, since it was another session
// before: refs is set last.
func (t *sessions) add(id uint64) {
	s := (*session)(t.cache.Alloc())
	s.id.Store(id)
	s.refs.Store(1) // the table's
	t.table[id%8].Store(s)
}

// remove ends a session; who has a reference keeps it until put.
func (t *sessions) remove(id uint64) { t.put(t.table[id%8].Swap(nil)) }

func (t *sessions) put(s *session) {
	if s.refs.Add(-1) == 0 {
		t.cache.Free(unsafe.Pointer(s)) // at once, not after a grace period
	}
}

// get takes a reference, unless the session is free.
func (s *session) get() bool {
	for n := s.refs.Load(); n > 0; n = s.refs.Load() {
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// find returns the session with a reference, or nil. What it finds in the table may be
// freed at any moment, and be another session; but as long as the section lasts it is
// some session, never anything else. So: take a reference, then look whether it is the right one.
func (t *sessions) find(id uint64) *session {
	section := t.a.RCU().ReadLock()
	defer t.a.RCU().ReadUnlock(section)
	for {
		s := t.table[id%8].Load()
		if s == nil {
			return nil
		}
		if !s.get() {
			continue // it was just freed: the table has something else by now
		}
		if s.id.Load() == id {
			return s
		}
		t.put(s)
		if t.table[id%8].Load() == s {
			return nil // another session has the place
		}
	}
}

func ExampleAllocator_RCU() {
	a := newAllocator(alloc.Options{})
	defer a.Close()
	cache, err := a.NewCache("session", int(unsafe.Sizeof(session{})), alloc.CacheOptions{
		Flags: alloc.TypesafeByRCU,
		Ctor:  func(p unsafe.Pointer) { *(*session)(p) = session{} }, // once for each object, not for each Alloc
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	t := &sessions{a: a, cache: cache}
	t.add(3)
	s := t.find(3)
	t.remove(3)
	fmt.Println("found", s.id.Load(), "which is in use still:", cache.Destroy())
	t.put(s)
	fmt.Println("found again:", t.find(3) != nil)
	fmt.Println(cache.Destroy()) // waits for no reader; Close does
	// Output:
	// found 3 which is in use still: destroy cache "session": 1 objects are in use: busy
	// found again: false
	// <nil>
}
