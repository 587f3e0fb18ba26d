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
	batch := k.sheafMax / 2
	objs := allocN(b, c, 4*batch*k.objects) // slab by slab
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
	exchange := func(objs []uintptr) { // out and in again: from slabs the same ones come
		pc := k.here()
		pc.mu.Lock()
		defer pc.mu.Unlock()
		k.giveObjects(pc, objs, &discard)
		k.takeObjects(pc, objs)
	}
	words := func(n, step int) []uintptr {
		w := make([]uintptr, n)
		for i := range w {
			w[i] = uintptr(objs[i*step])
		}
		return w
	}
	barn, one, each := words(batch, 1), words(batch-1, 1), words(batch-1, k.objects) // a batch would go to the barn
	half("list_lock/barn", func() { exchange(barn) })
	half("list_lock/slabs=1", func() { exchange(one) })
	half(fmt.Sprint("list_lock/slabs=", batch-1), func() { exchange(each) })
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
