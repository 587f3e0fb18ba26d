package bench

import (
	"runtime"
	"sync"
	"sync/atomic"

	"slabfs/alloc"
)

// The loops. Each allocator is called directly, as its documentation tells, and
// no loop does more than its peers do.

// An object is what is allocated.
type object [64]byte

// kept is where loops leave their last object, so that the compiler must put all on the heap.
var kept atomic.Pointer[byte]

func newPool() *sync.Pool { return &sync.Pool{New: func() any { return new(object) }} }

func newCache(a *alloc.Allocator, name string) (*alloc.Cache, func() error, error) {
	c, err := a.NewCache(name, len(object{}), alloc.CacheOptions{})
	if err != nil {
		return nil, nil, err
	}
	return c, c.Destroy, nil
}

// floor is called as a Cache is.
type floor struct{}

func (f *floor) Alloc()           { floorAlloc(f) }
func (f *floor) Free(obj uintptr) { floorFree(f, obj) }

func pairFloor(Config) *cell {
	f := new(floor)
	return &cell{loop: func(n int) {
		for range n {
			f.Alloc()
			f.Free(0)
		}
	}}
}

func pairSlabfs(a *alloc.Allocator, name string, _ Config) (*cell, error) {
	c, destroy, err := newCache(a, name)
	return &cell{destroy: destroy, loop: func(n int) {
		for range n {
			c.Free(c.Alloc())
		}
	}}, err
}

func pairPool(Config) *cell {
	p := newPool()
	return &cell{loop: func(n int) {
		for range n {
			p.Put(p.Get().(*object))
		}
	}}
}

func pairNew(Config) *cell {
	return &cell{loop: func(n int) {
		var obj *object
		for range n {
			obj = new(object)
		}
		kept.Store(&obj[0])
	}}
}

func typedSlabfs(a *alloc.Allocator, name string, _ Config) (*cell, error) {
	t, err := alloc.NewTyped[object](a, name, alloc.CacheOptions{})
	if err != nil {
		return nil, err
	}
	return &cell{destroy: t.Cache().Destroy, loop: func(n int) {
		for range n {
			t.Free(t.Alloc())
		}
	}}, nil
}

func typedPool(Config) *cell {
	p := newPool()
	return &cell{loop: func(n int) {
		for range n {
			obj := p.Get().(*object)
			*obj = object{}
			p.Put(obj)
		}
	}}
}

func bytesSlabfs(a *alloc.Allocator, _ string, _ Config) (*cell, error) {
	return &cell{loop: func(n int) {
		for range n {
			a.FreeBytes(a.Bytes(64))
		}
	}}, nil
}

func bytesPool(Config) *cell {
	p := &sync.Pool{New: func() any {
		b := make([]byte, 64)
		return &b
	}}
	return &cell{loop: func(n int) {
		for range n {
			p.Put(p.Get().(*[]byte))
		}
	}}
}

func bytesNew(Config) *cell {
	return &cell{loop: func(n int) {
		var b []byte
		for range n {
			b = make([]byte, 64)
		}
		kept.Store(&b[0])
	}}
}

const deep = 10_000

func deepPool(Config) *cell {
	p := newPool()
	objs := make([]*object, deep)
	return &cell{loop: func(n int) {
		for range n {
			for i := range objs {
				objs[i] = p.Get().(*object)
			}
			for _, obj := range objs {
				p.Put(obj)
			}
		}
	}}
}

func deepNew(Config) *cell {
	objs := make([]*object, deep)
	return &cell{loop: func(n int) {
		for range n {
			for i := range objs {
				objs[i] = new(object)
			}
			clear(objs)
		}
	}}
}

const bulk = 32

func bulkPool(Config) *cell {
	p := newPool()
	objs := make([]*object, bulk)
	return &cell{loop: func(n int) {
		for range n {
			for i := range objs {
				objs[i] = p.Get().(*object)
			}
			for _, obj := range objs {
				p.Put(obj)
			}
		}
	}}
}

func bulkNew(Config) *cell {
	objs := make([]*object, bulk)
	return &cell{loop: func(n int) {
		for range n {
			for i := range objs {
				objs[i] = new(object)
			}
			clear(objs)
		}
	}}
}

// collect runs the collector, as a cell's loop.
func collect(n int) {
	for range n {
		runtime.GC()
	}
}

func gcFloor(Config) *cell { return &cell{loop: collect} }

func gcRef(a *alloc.Allocator, name string, c Config) (*cell, error) {
	t, err := alloc.NewTyped[object](a, name, alloc.CacheOptions{})
	if err != nil {
		return nil, err
	}
	var refs []alloc.Ref[object]
	return &cell{
		loop:    collect,
		destroy: t.Cache().Destroy,
		prepare: func() error {
			refs = make([]alloc.Ref[object], c.Objects)
			for i := range refs {
				if refs[i] = t.AllocRef(); refs[i].IsNil() {
					refs = refs[:i]
					return alloc.ErrNoMemory
				}
			}
			return nil
		},
		clean: func() {
			for _, r := range refs {
				t.FreeRef(r)
			}
			refs = nil
			t.Cache().Shrink()
		},
	}, nil
}

func gcPointer(a *alloc.Allocator, name string, c Config) (*cell, error) {
	t, err := alloc.NewTyped[object](a, name, alloc.CacheOptions{})
	if err != nil {
		return nil, err
	}
	var objs []*object
	return &cell{
		loop:    collect,
		destroy: t.Cache().Destroy,
		prepare: func() error {
			objs = make([]*object, c.Objects)
			for i := range objs {
				if objs[i] = t.Alloc(); objs[i] == nil {
					objs = objs[:i]
					return alloc.ErrNoMemory
				}
			}
			return nil
		},
		clean: func() {
			for _, obj := range objs {
				t.Free(obj)
			}
			objs = nil
			t.Cache().Shrink()
		},
	}, nil
}

func gcPool(c Config) *cell {
	p := newPool()
	return gcHeap(c, func() *object { return p.Get().(*object) })
}

func gcNew(c Config) *cell { return gcHeap(c, func() *object { return new(object) }) }

// gcHeap is a cell of objects that the collector sees.
func gcHeap(c Config, get func() *object) *cell {
	var objs []*object
	return &cell{
		loop: collect,
		prepare: func() error {
			objs = make([]*object, c.Objects)
			for i := range objs {
				objs[i] = get()
			}
			return nil
		},
		clean: func() {
			runtime.KeepAlive(objs)
			objs = nil
		},
	}
}
