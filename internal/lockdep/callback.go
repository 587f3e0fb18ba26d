package lockdep

import "sync"

// callbacks counts, for each goroutine that is inside callbacks, how many.
// One lock for all: a callback is a file operation or a work item, microseconds long.
var callbacks struct {
	mu sync.Mutex
	in map[uintptr]int // key: goroutine
}

// Callback marks this goroutine as inside a callback (a show, a store, a work
// item, a publish) until the function that it returns is called, on the same
// goroutine.
func Callback() (leave func()) {
	g := goroutine()
	held := depth()
	callbacks.mu.Lock()
	if callbacks.in == nil {
		callbacks.in = make(map[uintptr]int)
	}
	callbacks.in[g]++
	callbacks.mu.Unlock()
	return func() {
		checkDepth(held)
		callbacks.mu.Lock()
		defer callbacks.mu.Unlock()
		if callbacks.in[g]--; callbacks.in[g] == 0 {
			delete(callbacks.in, g)
		}
	}
}

// InCallback reports whether this goroutine is inside a callback: what waits
// for callbacks to end would then wait for itself.
func InCallback() bool {
	g := goroutine()
	callbacks.mu.Lock()
	defer callbacks.mu.Unlock()
	return callbacks.in[g] != 0
}

// Goroutine returns a number that no other live goroutine has. It may be that
// of one that has ended.
func Goroutine() uintptr { return goroutine() }
