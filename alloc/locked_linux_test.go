//go:build amd64 && !race

package alloc

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/rseq"
)

// lockedCalls are calls of a cache of the lock engine and of slices of its class.
func lockedCalls(c *Cache) map[string]func() {
	a := c.core.a
	return map[string]func(){
		"Alloc and Free":      func() { c.Free(c.Alloc()) },
		"Bytes and FreeBytes": func() { a.FreeBytes(a.Bytes(64)) },
	}
}

// A thread on a CPU that the cache knows nothing of takes another's lock and its sheaf.
func TestLockedCPUUnknown(t *testing.T) {
	_, beyond := twoCPUs(t)
	for name, forget := range map[string]func([]*cpuState) []*cpuState{
		"beyond the last": func(cpus []*cpuState) []*cpuState { return cpus[:beyond] },
		"between others": func(cpus []*cpuState) []*cpuState {
			cpus[beyond] = nil
			return append(cpus, cpus[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t, Options{Engine: Lock})
			k := a.bySize[64/8].cache.core
			all := k.cpus
			for what, call := range lockedCalls(k.root) {
				pinned(t, beyond, func() {
					call() // opens the sheaf
					known := all[beyond]
					before, _ := known.area.Counts()
					k.cpus = forget(slices.Clone(all))
					for range 10 {
						call()
					}
					k.cpus = all
					if after, _ := known.area.Counts(); after != before {
						t.Errorf("%s: %d objects of a CPU that is not known", what, after-before)
					}
				})
			}
		})
	}
}

// A handle that is dead is refused though its core lives, and has objects at hand.
func TestLockedDead(t *testing.T) {
	a := newAllocator(t, Options{Engine: Lock, Merge: true})
	c, other := newCache(t, a, "ends", 64, CacheOptions{}), newCache(t, a, "stays", 64, CacheOptions{})
	objs := allocN(t, c, 10)
	destroy(t, c)
	for range 10 {
		other.Free(other.Alloc())
		mustPanic(t, func() { c.Alloc() }, "after its Destroy")
		mustPanic(t, func() { c.Free(objs[0]) }, "after its Destroy")
	}
	checkRest(t, other, objs)
	freeAll(other, objs)
}

// A call that comes to the lock only when the core is gone does not touch its sheaf: it
// is another cache's by then.
func TestLockedLate(t *testing.T) {
	a := newAllocator(t, Options{Engine: Lock})
	c := newCache(t, a, "gone", 64, CacheOptions{})
	destroy(t, c)
	heir := newCache(t, a, "heir", 64, CacheOptions{})
	if heir.core.place != c.core.place {
		t.Fatal("the next cache of the same size has another place")
	}
	for _, n := range affinity(t) {
		pinned(t, n, func() { heir.Free(heir.Alloc()) })
	}
	c.dead.Store(false) // as it was when the call looked
	defer c.dead.Store(true)
	mustPanic(t, func() { c.Alloc() }, "after its Destroy")
	checkUnlocked(a)
	checkRest(t, heir, nil)
}

// Somebody hungry goes first.
func TestLockedStandsBack(t *testing.T) {
	n, _ := twoCPUs(t)
	a := newAllocator(t, Options{Engine: Lock})
	c := a.bySize[64/8].cache
	for what, call := range lockedCalls(c) {
		pinned(t, n, func() {
			call()
			word := (*atomic.Uint64)(unsafe.Pointer(&c.core.cpus[n].mu)) // of a Spin
			const hungry = 1 << 32
			word.Add(hungry)
			begin := time.Now()
			call()
			if took := time.Since(begin); took < 100*time.Microsecond {
				t.Errorf("%s: took %v, while somebody hungry waits; want several naps", what, took)
			}
			if w := word.Add(^uint64(hungry - 1)); w != 0 {
				t.Errorf("%s: the word is %#x afterwards; want 0", what, w)
			}
		})
	}
}

// On the engine that has sequences nobody else touches a sheaf: the first call of a thread
// registers it, also where the sheaf has what it wants.
func TestNewThreadUsesSequences(t *testing.T) {
	a := sequences(t, Options{})
	c := newCache(t, a, "new", 64, CacheOptions{})
	for _, n := range affinity(t) {
		pinned(t, n, func() { freeAll(c, allocN(t, c, 10)) })
	}
	obj := c.Alloc()
	for what, call := range map[string]func(){
		"Alloc": func() { c.Free(c.Alloc()) },
		"Free":  func() { c.Free(obj) },
	} {
		var held []chan struct{}
		for fresh := false; !fresh; {
			done, goOn := make(chan bool), make(chan struct{})
			held = append(held, goOn)
			go func() {
				runtime.LockOSThread() // and never unlocked, so that the next is another one
				if rseq.Registered() {
					done <- false
				} else {
					call()
					if !rseq.Registered() {
						t.Errorf("%s: the thread was served, and is not registered", what)
					}
					done <- true
				}
				<-goOn
			}()
			fresh = <-done
		}
		for _, goOn := range held {
			close(goOn)
		}
	}
	destroy(t, c)
}
