package alloc

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
)

// A thread that finds itself on another node's CPU when its slab is built gets objects of it, and
// leaves it to its own node.
func TestNodesBuilderMoves(t *testing.T) {
	onNodes(t, func(t *testing.T, first, second int) {
		engines(t, func(t *testing.T, a *Allocator) {
			var to unix.CPUSet
			to.Set(second)
			c := newCache(t, a, "moves", 64, CacheOptions{Ctor: func(unsafe.Pointer) {
				if err := unix.SchedSetaffinity(0, &to); err != nil {
					t.Error(err)
				}
			}})
			for _, min := range []uint64{0, 5} {
				c.SetMinPartial(min)
				var objs []unsafe.Pointer
				exactly(t, first, func() { objs = allocN(t, c, 1) })
				checkHome(t, first, objs)
				checkRest(t, c, objs)
				home := c.core.nodes[cpu.NodeOf(first)]
				if s := c.Stats(); len(cpu.Nodes()) > 1 && (home.partials.Load() != 1 || s.CPUSlabs != 0) {
					t.Errorf("%d slabs on the list of their node, %d kept by CPUs; want one on the list", home.partials.Load(), s.CPUSlabs)
				}
				freeAll(c, objs)
				c.Shrink()
				checkRest(t, c, nil)
			}
			destroy(t, c)
		})
	})
}

// BenchmarkNodes is a pair of which one CPU allocates 2000 times and another frees; mixed, they both allocate half
// of the objects, which lie in turns. With SLABFS_TEST_NODES="0,1" and "0;1" it compares nodes.
func BenchmarkNodes(b *testing.B) {
	first, second := twoCPUs(b)
	on := func(n int) (run func(func())) {
		work, done := make(chan func()), make(chan struct{})
		b.Cleanup(func() { close(work) })
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its changed affinity
			var one unix.CPUSet
			one.Set(n)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				b.Error(err)
			}
			for f := range work {
				f()
				done <- struct{}{}
			}
		}()
		return func(f func()) {
			work <- f
			<-done
		}
	}
	here, there := on(first), on(second)
	for _, mixed := range []bool{false, true} {
		b.Run(fmt.Sprint("mixed=", mixed), func(b *testing.B) {
			a := newAllocator(b, Options{})
			c := newCache(b, a, "nodes", 64, CacheOptions{})
			objs := make([]unsafe.Pointer, 2000)
			fill := func(i, step int) {
				for ; i < len(objs); i += step {
					objs[i] = c.Alloc()
				}
			}
			for b.Loop() {
				if mixed {
					here(func() { fill(0, 2) })
					there(func() { fill(1, 2) })
				} else {
					here(func() { fill(0, 1) })
				}
				there(func() { freeAll(c, objs) })
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(objs)), "ns/pair")
			destroy(b, c)
		})
	}
}
