package lockdep

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Limits of the checker's tables, of the same size as Linux's. lockdep_stats
// counts what goes beyond. Classes beyond the limit are not checked, and chains
// beyond it are checked each time.
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

// classes has all classes that were used while the checker was on.
var classes registry

type registry struct {
	mu      sync.Mutex
	all     []*Class // mu: by number-1
	named   map[string]int
	refused int // mu: classes beyond maxClasses
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

// A kind says how one lock follows another. The first is held exclusively or
// shared (E, S). The second is recursive or not (R, N).
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
	bad      kind      // the kinds that closed a circle: no search follows them
	stack    []uintptr // of the first acquisition
}

// A graph has the orders that classes were taken in. Without its bad edges, no
// circle in it can be a deadlock.
type graph struct {
	after    map[*Class][]*edge
	edges    int
	searches uint64
	longest  int // most steps of one search
}

// check adds the edges of next, which is acquired while before is held. It
// returns a report if it finds the first violation.
//
// Preconditions: k.mu is held.
func (g *graph) check(before []held, next *held, k *checker) (report string) {
	for i := range before {
		prev := &before[i]
		switch {
		case prev.class != next.class:
			continue
		case next.how.kind() == Recursive && prev.how.kind() != Exclusive:
			return "" // adds no new order
		case next.class.nest != nil && holds(before, next.class.nest):
			continue // allowed; the loop below checks the locks in between
		}
		return k.found(func() string { return k.recursive(before, prev, next) })
	}
	var stack []uintptr
	for i := len(before) - 1; i >= 0; i-- {
		prev := &before[i]
		if prev.class == next.class {
			break // locks held before it have an edge to its class
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
		// The locks held before prev have an edge to prev, and so a
		// path to next. If prev is a recursive reader, this is not
		// enough: a path that arrives at prev does not continue to
		// locks that a reader waits for. (Linux stops there all the
		// same.)
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

// edge returns the edge between two classes. It makes the edge if there is
// none.
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

// A step is one edge of a search, and the step before it.
type step struct {
	*edge
	before *step
	onlyXR bool // it arrives at a recursive reader, which no reader blocks
}

// path returns the edges of the shortest strong path from source to target, or
// nil if there is none. A path is strong if a goroutine that follows it may
// wait for each of its locks in turn: a recursive reader does not wait for a
// reader.
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

// reach returns how many classes can be reached from c, including c.
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
// Its slots are read without a lock. To write them, the checker's mu must be
// held.
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

// add adds a chain and reports whether it was new.
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
