// Package work is what the test programs of internal/rseq do once they are built
// in all the ways in which a program can be built.
package work

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"slabfs/alloc"
)

const (
	size       = 64
	goroutines = 8
	rounds     = 3000

	isHeld, isFree = 0xa11e, 0xf4ee // in an object's first word
)

// Run makes an allocator, uses it from several goroutines and from this one, and
// returns how its engine did, or what went wrong. between runs after a first use.
func Run(between func() error) (string, error) { return Share(between, Use) }

// Share is Run in which every other goroutine uses the cache through a function
// of somebody else.
func Share(between func() error, other func(c *alloc.Cache, rounds int)) (string, error) {
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		return "", err
	}
	c, err := a.NewCache("work", size, alloc.CacheOptions{})
	if err != nil {
		return "", err
	}
	Use(c, 1)
	if between != nil {
		if err := between(); err != nil {
			return "", err
		}
	}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			if g%2 == 0 {
				runtime.LockOSThread() // and never unlocked: the thread ends, others come
			}
			if g%4 < 2 {
				other(c, rounds)
			} else {
				Use(c, rounds)
			}
		})
	}
	Use(c, rounds)
	wg.Wait()
	if n := doubled.Load(); n > 0 {
		return "", fmt.Errorf("%d objects were handed out twice", n)
	}
	if err := c.Destroy(); err != nil { // objects that were lost count as live
		return "", err
	}
	if n := a.Damage(); n > 0 {
		return "", fmt.Errorf("%d objects could not go back to their slabs", n)
	}
	aborts := uint64(0)
	for _, n := range a.Aborts() {
		aborts += n
	}
	answer := fmt.Sprintf("engine=%v unregistered=%d aborts=%d", a.Engine(), a.Unregistered(), aborts)
	return answer, a.Close()
}

var doubled atomic.Int64

// Use allocates and frees, and marks what it holds.
func Use(c *alloc.Cache, rounds int) {
	var held [40]unsafe.Pointer
	for i := range rounds {
		objs := held[:1+i%len(held)]
		for j := range objs {
			objs[j] = c.Alloc()
			if atomic.SwapUint64((*uint64)(objs[j]), isHeld) == isHeld {
				doubled.Add(1)
			}
		}
		if i%64 == 0 {
			runtime.Gosched()
		}
		for _, obj := range objs {
			atomic.StoreUint64((*uint64)(obj), isFree)
			c.Free(obj)
		}
	}
}
