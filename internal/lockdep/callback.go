package lockdep

import (
	"slices"
	"sync"
)

// callbacks has the innermost callback of each goroutine that is inside one.
// One lock for all is enough, because a callback is a file operation or a work
// item of some microseconds.
var callbacks struct {
	mu sync.Mutex
	in map[uintptr]*callback // key: goroutine
}

type callback struct {
	about []any
	outer *callback // of the same goroutine
}

// Callback marks this goroutine as inside a callback (a show, a store, a work
// item, a publish). The mark lasts until the same goroutine calls leave. about
// lists the objects that cannot end before the callback does.
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

// InCallback reports whether this goroutine is inside a callback. Then it must
// not wait for callbacks to end, because it would wait for itself.
func InCallback() bool {
	return innermost() != nil
}

// InCallbackAbout reports whether this goroutine is inside a callback about x,
// a pointer.
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

// Goroutine returns a number that no other live goroutine has. A goroutine that
// has ended may have had it.
func Goroutine() uintptr { return goroutine() }
