package lockdep

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Limits of the checker's tables, in the size of Linux's. What goes beyond is
// counted in lockdep_stats: classes are not checked, chains are checked each time.
const (
	maxClasses = 8191
	chainSlots = 1 << 16
	maxChains  = chainSlots / 4 * 3
	maxStack   = 32 // frames
)

// Bits of Class.usage.
const (
	usedExclusive = 1 << iota
	usedShared
)

// classes has all classes that were ever used while the checker was on.
var classes registry

type registry struct {
	mu      sync.Mutex
	all     []*Class // mu: by number-1
	named   map[string]int
	refused int // mu: those for which there was no room
}

// use counts an acquisition and reports whether the class is checked.
func (c *Class) use(lock any, how Mode) bool {
	n := c.number.Load()
	if n == 0 {
		n = classes.register(c, lock)
	}
	if n < 0 {
		return false
	}
	c.ops.Add(1)
	bit := uint32(usedShared)
	if how.kind() == Exclusive {
		bit = usedExclusive
	}
	if c.usage.Load()&bit == 0 {
		c.usage.Or(bit)
	}
	return true
}

func (r *registry) register(c *Class, lock any) int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := c.number.Load(); n != 0 {
		return n
	}
	if len(r.all) == maxClasses {
		r.refused++
		c.number.Store(-1)
		return -1
	}
	if r.named == nil {
		r.named = make(map[string]int)
	}
	c.same = r.named[c.name]
	r.named[c.name]++
	c.wait = "{0:0}"
	if _, ok := lock.(interface{ nestTurn() uint32 }); ok { // a Mutex or a Spin
		c.wait = "{3:3}"
	}
	r.all = append(r.all, c)
	n := int32(len(r.all))
	c.number.Store(n)
	return n
}

func (r *registry) room() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all) < maxClasses
}

func (r *registry) list() []*Class {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// A kind says how two locks follow each other: the first is held exclusively or
// shared (E, S), the second is recursive or not (R, N).
type kind uint8

const (
	kindEN kind = 1 << iota
	kindER
	kindSN
	kindSR
)

func kindOf(prev, next Mode) kind {
	switch shared, recursive := prev.kind() != Exclusive, next.kind() == Recursive; {
	case shared && recursive:
		return kindSR
	case shared:
		return kindSN
	case recursive:
		return kindER
	default:
		return kindEN
	}
}

// An edge says that to was acquired while from was held.
type edge struct {
	from, to *Class
	kinds    kind
	bad      kind      // those of them that closed a circle: no search follows them
	stack    []uintptr // of the first time
}

// graph has the orders in which classes were taken. Without the bad edges it has
// no circle that could be a deadlock.
type graph struct {
	after    map[*Class][]*edge
	edges    int
	searches uint64
	longest  int // steps that one search took
}

// check adds what next brings, which is acquired while before is held, and
// returns a report if that is the first violation.
//
// Preconditions: k.mu is held.
func (g *graph) check(before []held, next *held, k *checker) (report string) {
	for i := range before {
		prev := &before[i]
		switch {
		case prev.class != next.class:
			continue
		case next.how.kind() == Recursive && prev.how.kind() != Exclusive:
			return "" // brings no new order
		case next.class.nest != nil && holds(before, next.class.nest):
			continue // several are fine; what was taken between them is looked at below
		}
		return k.found(func() string { return k.recursive(before, prev, next) })
	}
	var stack []uintptr
	for i := len(before) - 1; i >= 0; i-- {
		prev := &before[i]
		if prev.class == next.class {
			break // what is below it has an edge to its class
		}
		e, how := g.edge(prev.class, next.class), kindOf(prev.how, next.how)
		if e.kinds&how == 0 {
			if e.stack == nil {
				if stack == nil {
					stack = callers()
				}
				e.stack = stack
			}
			if circle := g.path(next, prev); circle != nil {
				e.bad |= how
				text := k.found(func() string { return k.circular(before, prev, next, circle) })
				if text != "" {
					report = text
				}
			}
			e.kinds |= how
		}
		// What is below it has an edge to prev, and with it a path to next. Not so
		// where prev is a recursive reader: nothing that leads to it goes on to what a
		// reader waits for. (Linux stops there all the same.)
		if prev.how == Exclusive || prev.how == Shared {
			break
		}
	}
	return report
}

func callers() []uintptr {
	pcs := make([]uintptr, maxStack)
	return pcs[:runtime.Callers(2, pcs)]
}

// edge returns the edge between two classes, which it makes if there is none.
func (g *graph) edge(from, to *Class) *edge {
	for _, e := range g.after[from] {
		if e.to == to {
			return e
		}
	}
	if g.after == nil {
		g.after = make(map[*Class][]*edge)
	}
	e := &edge{from: from, to: to}
	g.after[from] = append(g.after[from], e)
	g.edges++
	return e
}

// A step is one edge of a search, after the one that led to it.
type step struct {
	*edge
	before *step
	onlyXR bool // it arrives at a recursive reader, whom a reader does not block
}

// path returns the edges of a strong path from source to target, the shortest,
// or nil if there is none. Strong means that somebody who follows it may wait for
// each of its locks in turn: a recursive reader does not wait for a reader.
func (g *graph) path(source, target *held) []*edge {
	g.searches++
	queue := []*step{{edge: &edge{to: source.class}, onlyXR: source.how.kind() == Recursive}}
	const any, strong = 1, 2
	seen := make(map[*Class]int)
	for n := 0; n < len(queue); n++ {
		g.longest = max(g.longest, len(queue))
		s := queue[n]
		for _, e := range g.after[s.to] {
			kinds := e.kinds &^ e.bad
			if s.onlyXR {
				kinds &^= kindSN | kindSR
			}
			if kinds == 0 {
				continue
			}
			next := &step{edge: e, before: s, onlyXR: kinds&(kindEN|kindSN) == 0}
			if e.to == target.class && (target.how.kind() == Exclusive || !next.onlyXR) {
				var edges []*edge
				for ; next.before != nil; next = next.before {
					edges = append(edges, next.edge)
				}
				slices.Reverse(edges)
				return edges
			}
			mark := strong
			if next.onlyXR {
				mark = any
			}
			if seen[e.to] < mark {
				seen[e.to] = mark
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// reach returns how many classes can be reached from c, itself included.
func reach(next map[*Class][]*Class, c *Class) int {
	seen := map[*Class]bool{c: true}
	for queue := []*Class{c}; len(queue) > 0; queue = queue[1:] {
		for _, to := range next[queue[0]] {
			if !seen[to] {
				seen[to] = true
				queue = append(queue, to)
			}
		}
	}
	return len(seen)
}

// chains has the orders of classes that were checked.
//
// Its slots are read with no lock held; the checker's mu is held to write them.
type chains struct {
	slots []atomic.Uint64 // an open hash table of keys
	list  [][]int32       // numbers of classes, outermost first
}

func newChains() chains { return chains{slots: make([]atomic.Uint64, chainSlots)} }

func (c *chains) has(key uint64) bool {
	for i := key; ; i++ {
		switch c.slots[i%chainSlots].Load() {
		case key:
			return true
		case 0:
			return false
		}
	}
}

// add reports whether the chain was not there.
func (c *chains) add(key uint64, before []held, next *held) bool {
	if c.has(key) {
		return false
	}
	if len(c.list) == maxChains {
		return true
	}
	numbers := make([]int32, 0, len(before)+1)
	for i := range before {
		numbers = append(numbers, before[i].class.number.Load())
	}
	c.list = append(c.list, append(numbers, next.class.number.Load()))
	i := key
	for c.slots[i%chainSlots].Load() != 0 {
		i++
	}
	c.slots[i%chainSlots].Store(key)
	return true
}
