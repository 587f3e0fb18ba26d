package lockdep

import (
	"slices"
	"sync"
)

// callbacks has, for each goroutine that is inside callbacks, the innermost one.
// One lock for all: a callback is a file operation or a work item, microseconds long.
var callbacks struct {
	mu sync.Mutex
	in map[uintptr]*callback // key: goroutine
}

type callback struct {
	about []any
	outer *callback // of the same goroutine
}

// Callback marks this goroutine as inside a callback (a show, a store, a work
// item, a publish) until the function that it returns is called, on the same
// goroutine. The end of what it is about would wait for it.
func Callback(about ...any) (leave func()) {
	g := goroutine()
	held := depth()
	callbacks.mu.Lock()
	if callbacks.in == nil {
		callbacks.in = make(map[uintptr]*callback)
	}
	c := &callback{about, callbacks.in[g]}
	callbacks.in[g] = c
	callbacks.mu.Unlock()
	return func() {
		checkDepth(held)
		callbacks.mu.Lock()
		defer callbacks.mu.Unlock()
		if callbacks.in[g] = c.outer; c.outer == nil {
			delete(callbacks.in, g)
		}
	}
}

// InCallback reports whether this goroutine is inside a callback: what waits
// for callbacks to end would then wait for itself.
func InCallback() bool {
	return innermost() != nil
}

// InCallbackAbout reports whether this goroutine is inside a callback that is about
// x, a pointer.
func InCallbackAbout(x any) bool {
	for c := innermost(); c != nil; c = c.outer {
		if slices.Contains(c.about, x) {
			return true
		}
	}
	return false
}

func innermost() *callback {
	g := goroutine()
	callbacks.mu.Lock()
	defer callbacks.mu.Unlock()
	return callbacks.in[g]
}

// Goroutine returns a number that no other live goroutine has. It may be that
// of one that has ended.
func Goroutine() uintptr { return goroutine() }
