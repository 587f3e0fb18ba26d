// Command ends looks at its threads' areas while threads end, and the C library
// unmaps what they had. It prints one line: its engine.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"slabfs/alloc"
	"slabfs/internal/rseq"
)

// int one(void) { return 1; }
import "C"

const (
	threads = 4000 // that end
	ending  = 8    // at a time
	looking = 24   // goroutines that look at areas, one of which collects
)

func main() {
	C.one()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ends:", err)
		os.Exit(1)
	}
}

func run() error {
	runtime.GOMAXPROCS(4) // so that goroutines change threads
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		return err
	}
	c, err := a.NewCache("ends", 64, alloc.CacheOptions{})
	if err != nil {
		return err
	}
	if err := c.SetSheafCapacity(0); err != nil { // every call takes a slow path
		return err
	}
	var stop atomic.Bool
	var ends, others sync.WaitGroup
	for range ending {
		ends.Go(func() {
			for range threads / ending {
				done := make(chan struct{})
				go func() {
					runtime.LockOSThread() // and never unlocked: the thread ends
					c.Free(c.Alloc())
					close(done)
				}()
				<-done
			}
		})
	}
	for g := range looking {
		others.Go(func() {
			for !stop.Load() {
				if g == 0 {
					runtime.GC() // it preempts the others anywhere
				}
				if g%4 == 1 {
					c.Free(c.Alloc())
				}
				for range 100 {
					rseq.Register()
					if !rseq.Registered() {
						panic("a thread is not registered")
					}
				}
			}
		})
	}
	ends.Wait()
	stop.Store(true)
	others.Wait()
	if err := c.Destroy(); err != nil {
		return err
	}
	fmt.Printf("engine=%v unregistered=%d\n", a.Engine(), a.Unregistered())
	return a.Close()
}
