//go:build slabfs_invariants || race

package rcu

import (
	"bytes"
	"runtime"

	"slabfs/internal/lockdep"
)

// A holder is the goroutine that began a section. It is the start of the
// goroutine's stack trace, "goroutine 12 ". The goroutine may end before the
// section does, because another goroutine may end the section. So
// lockdep.Goroutine would not do: its numbers are used again.
type holder struct{ goroutine string }

func here() holder {
	var buf [64]byte
	line := buf[:runtime.Stack(buf[:], false)]
	name, _, _ := bytes.Cut(line, []byte("["))
	return holder{string(name)}
}

// held records the goroutines that are in a section.
type held struct {
	mu lockdep.Mutex
	in map[holder]int // mu: number of sections
}

func (h *held) init() {
	h.mu.Init(lockdep.Leaf)
	h.in = make(map[holder]int)
}

func (h *held) enter() holder {
	g := here()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in[g]++
	return g
}

func (h *held) leave(g holder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.in[g]--; h.in[g] <= 0 {
		delete(h.in, g)
	}
}

func (h *held) here() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.in[here()] > 0
}
