package alloc

import (
	"context"
	"fmt"
	"testing"

	"slabfs/internal/pages"
)

// BenchmarkHold tells for how long locks are held, their own price included, with nobody
// waiting and all that they guard in this CPU's caches. With SLABFS_TEST_POSSIBLE=0-191 it
// is on a machine of 192 CPUs, each of which has used the cache.
func BenchmarkHold(b *testing.B) {
	a := newAllocator(b, Options{})
	c := newCache(b, a, "hold", 64, CacheOptions{})
	k := c.core
	sheaf := k.sheafMax
	objs := allocN(b, c, 2*sheaf*k.objects) // slab by slab
	flush(b, c)
	for _, pc := range k.cpus {
		if pc != nil {
			pc.mu.Lock()
			k.openArea(pc)
			pc.mu.Unlock()
		}
	}
	// half runs f, which takes the lock twice, and reports what one hold comes to.
	half := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2, "ns/hold")
		})
	}
	for _, n := range []int{1, 64 << 20 >> pages.Shift} {
		half(fmt.Sprint("pages_lock/pages=", n), func() {
			p, err := pages.AllocRun(n, 0)
			if err != nil {
				b.Fatal(err)
			}
			pages.FreeRun(p, n)
		})
	}

	var discard slabList
	exchange := func(objs []uintptr, whole bool) { // out and in again: from slabs the same ones come
		pc := k.here()
		pc.mu.Lock()
		defer pc.mu.Unlock()
		n := pc.node
		n.mu.Lock()
		k.toNode(n, pc, objs, 0, whole, &discard)
		n.mu.Unlock()
		k.takeObjects(pc, objs)
	}
	words := func(n, step int) []uintptr {
		w := make([]uintptr, n)
		for i := range w {
			w[i] = uintptr(objs[i*step])
		}
		return w
	}
	one, each := words(sheaf, 1), words(sheaf, k.objects)
	half("list_lock/barn", func() { exchange(one, true) })
	half("list_lock/slabs=1", func() { exchange(one, false) })
	half(fmt.Sprint("list_lock/slabs=", sheaf), func() { exchange(each, false) })
	freeAll(c, objs[len(objs)/2:])
	objs = objs[:len(objs)/2]
	half("cpu_lock/slow_path", func() {
		pc := k.lockCPU()
		k.refill(pc, one[:1], true, &discard)
		pc.mu.Unlock()
		pc = k.lockCPU()
		k.makeRoom(pc, one[:1], &discard)
		pc.mu.Unlock()
	})
	cpus := a.hotplug.Possible().Count()
	b.Run(fmt.Sprint("flush_lock/cpus=", cpus), func(b *testing.B) {
		for b.Loop() {
			if err := k.flushAll(context.Background(), nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(fmt.Sprint("slab_mutex/cpus=", cpus), func(b *testing.B) {
		for b.Loop() {
			destroy(b, newCache(b, a, "short", 64, CacheOptions{}))
		}
	})
	k.discardSlabs(&discard)
	freeAll(c, objs)
}
