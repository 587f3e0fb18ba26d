package bench

import (
	"sync"
	"testing"

	"github.com/bytedance/gopkg/lang/mcache"
	"modernc.org/memory"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

// The loops of plain, each written as a user of that allocator would.

func nothing() error { return nil }

func plainSlab(a *alloc.Allocator, name string) (func(*testing.B), func() error, error) {
	c, err := a.NewCache(name, 64, alloc.CacheOptions{})
	if err != nil {
		return nil, nil, err
	}
	return func(b *testing.B) {
		for range b.N {
			c.Free(c.Alloc())
		}
	}, c.Destroy, nil
}

func plainLocal(a *alloc.Allocator, name string) (func(*testing.B), func() error, error) {
	objects, err := alloc.NewTyped[object](a, name, alloc.CacheOptions{})
	if err != nil {
		return nil, nil, err
	}
	l := objects.Local()
	return func(b *testing.B) {
			for range b.N {
				l.Free(l.Alloc())
			}
		}, func() error {
			l.Return()
			return objects.Cache().Destroy()
		}, nil
}

func newObjectPool() *sync.Pool { return &sync.Pool{New: func() any { return new(object) }} }

func plainPool(*alloc.Allocator, string) (func(*testing.B), func() error, error) {
	p := newObjectPool()
	return func(b *testing.B) {
		for range b.N {
			p.Put(p.Get().(*object))
		}
	}, nothing, nil
}

func plainNew(*alloc.Allocator, string) (func(*testing.B), func() error, error) {
	return func(b *testing.B) {
		var obj *object
		for range b.N {
			obj = new(object)
		}
		keep(ref(obj))
	}, nothing, nil
}

func plainChannel(*alloc.Allocator, string) (func(*testing.B), func() error, error) {
	pool := make(chan *object, 100)
	return func(b *testing.B) {
		for range b.N {
			var obj *object
			select {
			case obj = <-pool:
			default:
				obj = new(object)
			}
			select {
			case pool <- obj:
			default:
			}
		}
	}, nothing, nil
}

func plainMcache(*alloc.Allocator, string) (func(*testing.B), func() error, error) {
	return func(b *testing.B) {
		for range b.N {
			mcache.Free(mcache.Malloc(64))
		}
	}, nothing, nil
}

func plainModernc(*alloc.Allocator, string) (func(*testing.B), func() error, error) {
	var m memory.Allocator
	return func(b *testing.B) {
		for range b.N {
			obj, err := m.UnsafeMalloc(64)
			if err != nil {
				b.Fatal(err)
			}
			if err := m.UnsafeFree(obj); err != nil {
				b.Fatal(err)
			}
		}
	}, m.Close, nil
}

func plainModerncLocked(*alloc.Allocator, string) (func(*testing.B), func() error, error) {
	var mu lockdep.Mutex
	mu.Init(moderncClass)
	var m memory.Allocator
	return func(b *testing.B) {
		for range b.N {
			mu.Lock()
			obj, err := m.UnsafeMalloc(64)
			mu.Unlock()
			if err != nil {
				b.Fatal(err)
			}
			mu.Lock()
			err = m.UnsafeFree(obj)
			mu.Unlock()
			if err != nil {
				b.Fatal(err)
			}
		}
	}, m.Close, nil
}
