package rcu_test

import (
	"fmt"
	"sync/atomic"

	"slabfs/alloc/rcu"
)

type config struct{ name string }

// An updater replaces a value that readers look at without a lock.
func Example() {
	d, err := rcu.New(rcu.Options{}) // Sequences: where alloc runs on the rseq engine
	if err != nil {
		fmt.Println(err)
		return
	}
	var current atomic.Pointer[config]
	current.Store(&config{name: "first"})

	section := d.ReadLock()
	found := current.Load()

	old := current.Swap(&config{name: "second"})
	d.Call(func() { // after the reader has left
		fmt.Println("free", old.name)
		old.name = ""
	})

	fmt.Println("read", found.name)
	d.ReadUnlock(section)

	if err := d.Close(); err != nil { // runs what is left
		fmt.Println(err)
	}
	// Output:
	// read first
	// free first
}

// The release of something that callbacks still need comes after Barrier: a grace
// period alone would not be enough, since they run some time after it.
func ExampleDomain_Barrier() {
	d, err := rcu.New(rcu.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	slabs := 3
	for range 3 {
		d.Call(func() { slabs-- })
	}
	if err := d.Barrier(); err != nil {
		fmt.Println("keep it, and count that:", err)
		return
	}
	fmt.Println("release the cache of", slabs, "slabs")
	if err := d.Close(); err != nil {
		fmt.Println(err)
	}
	// Output: release the cache of 0 slabs
}
