package alloc

import "testing"

type block [64]byte

func BenchmarkLocal(b *testing.B) {
	a := newAllocator(b, Options{})
	blocks, err := NewTyped[block](a, "block", CacheOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Local", func(b *testing.B) {
		l := blocks.Local()
		defer l.Return()
		for range b.N {
			l.Free(l.Alloc())
		}
	})
	b.Run("Typed", func(b *testing.B) {
		for range b.N {
			blocks.Free(blocks.Alloc())
		}
	})
	b.Run("Cache", func(b *testing.B) {
		c := blocks.Cache()
		for range b.N {
			c.Free(c.Alloc())
		}
	})
}
