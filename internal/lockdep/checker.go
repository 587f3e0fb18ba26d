package lockdep

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// This file keeps what each goroutine holds.

// A checker knows what each goroutine holds, and the orders that classes were
// taken in.
//
// The only effect of a violation is the report: the checker never panics. It
// waits for nothing except its own locks, and calls no other code under them.
type checker struct {
	quiet  bool // nothing is printed
	shards [64]shard
	chains chains

	violations atomic.Uint64

	mu     sync.Mutex
	graph  graph  // mu
	report string // mu: of the first violation
}

// A shard has the goroutines whose numbers map to it.
type shard struct {
	mu      sync.Mutex
	holders map[uintptr]*holder // mu: by goroutine; only those that hold something
	spare   []*holder           // mu
	hits    uint64              // mu: acquisitions in a known order
	misses  uint64              // mu: acquisitions in a new order
	depth   int                 // mu: the most that one goroutine held
	_       [64]byte
}

// maxSpare bounds the holders that a shard keeps for later goroutines.
const maxSpare = 16

// A holder is a goroutine that holds something.
type holder struct{ held []held }

// held is one acquisition.
type held struct {
	class *Class
	lock  any
	how   Mode
	more  int        // further locks of the class, which is nested
	turn  uint32     // of the last of these locks, see turnOf
	chain uint64     // key of the classes held, up to this one
	at    [3]uintptr // stack of the acquisition, innermost first
}

func newChecker() *checker {
	k := &checker{chains: newChains()}
	for i := range k.shards {
		k.shards[i].holders = make(map[uintptr]*holder)
	}
	return k
}

func (k *checker) shard(g uintptr) *shard { return &k.shards[mix(uint64(g))%uint64(len(k.shards))] }

// add pushes h onto the holder of goroutine g.
func (s *shard) add(g uintptr, h held) {
	o := s.holders[g]
	if o == nil {
		if n := len(s.spare); n > 0 {
			o, s.spare = s.spare[n-1], s.spare[:n-1]
		} else {
			o = new(holder)
		}
		s.holders[g] = o
	}
	h.chain = h.follow(o.last())
	o.held = append(o.held, h)
	s.depth = max(s.depth, len(o.held))
}

// last returns the key of the chain of everything that is held.
func (o *holder) last() uint64 {
	if o == nil || len(o.held) == 0 {
		return 0
	}
	return o.held[len(o.held)-1].chain
}

// follow returns the key of a chain that ends in h.
func (h *held) follow(before uint64) uint64 {
	return mix(before ^ uint64(h.class.number.Load())<<3 ^ uint64(h.how))
}

// mix spreads the bits of a key (the finalizer of SplitMix64). It never returns
// 0.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return max(x^x>>31, 1)
}

func (k *checker) acquire(c *Class, lock any, how Mode) {
	if !c.use(lock, how) {
		return
	}
	h := held{class: c, lock: lock, how: how, turn: turnOf(lock)}
	runtime.Callers(4, h.at[:])
	g := goroutine()
	s := k.shard(g)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.holders[g]
	if o.nests(c) {
		prev := &o.held[len(o.held)-1]
		before := o.held
		wrong := h.turn <= prev.turn && h.turn != 0 && how&Try == 0
		if wrong {
			before = slices.Clone(before)
		}
		prev.more++
		prev.turn = h.turn
		if wrong {
			next := h
			s.mu.Unlock()
			k.violated(func() string { return k.recursive(before, &before[len(before)-1], &next) })
			s.mu.Lock()
		}
		return
	}
	chain := h.follow(o.last())
	switch {
	case how&Try != 0:
	case k.chains.has(chain):
		s.hits++
	default:
		s.misses++
		var before []held
		if o != nil {
			before = slices.Clone(o.held)
		}
		next := h // on the heap, unlike h
		s.mu.Unlock()
		k.validate(before, &next, chain)
		s.mu.Lock()
	}
	s.add(g, h)
}

// nests reports whether a lock of class c would be one more of the last class
// held, which is nested.
func (o *holder) nests(c *Class) bool {
	return o != nil && c.nest != nil && len(o.held) > 0 && o.held[len(o.held)-1].class == c && holds(o.held, c.nest)
}

// turnOf returns a lock's place in the order of Init among the locks of nested
// classes, or 0. Several locks of such a class must be taken in that order.
func turnOf(lock any) uint32 {
	if l, ok := lock.(interface{ nestTurn() uint32 }); ok {
		return l.nestTurn()
	}
	return 0
}

var turns atomic.Uint32

// nextTurn returns the turn of a lock that gets class c.
func nextTurn(c *Class) uint32 {
	if c == nil || c.nest == nil {
		return 0
	}
	return turns.Add(1)
}

// holds reports whether a lock of class c is held exclusively.
func holds(all []held, c *Class) bool {
	return slices.ContainsFunc(all, func(h held) bool { return h.class == c && h.how.kind() == Exclusive })
}

// release removes the acquisition of lock. It reports whether the checker knew
// of one.
func (k *checker) release(c *Class, lock any) bool {
	if c.number.Load() <= 0 {
		return false
	}
	g := goroutine()
	if k.shard(g).remove(g, c, lock, c.nest != nil) {
		return true
	}
	for i := range k.shards { // another goroutine acquired it
		if k.shards[i].removeAny(c, lock) {
			return true
		}
	}
	return false
}

func (s *shard) removeAny(c *Class, lock any) bool {
	s.mu.Lock()
	others := make([]uintptr, 0, len(s.holders))
	for g := range s.holders {
		others = append(others, g)
	}
	s.mu.Unlock()
	return slices.ContainsFunc(others, func(g uintptr) bool { return s.remove(g, c, lock, false) })
}

// remove removes the last acquisition of lock by a goroutine, if there is one.
// The checker knows only the first of several nested locks, so with nested any
// lock of the class matches.
func (s *shard) remove(g uintptr, c *Class, lock any, nested bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.holders[g]
	if o == nil {
		return false
	}
	i := len(o.held) - 1
	for ; i >= 0; i-- {
		if h := &o.held[i]; h.class == c && (nested || h.lock == lock) {
			break
		}
	}
	if i < 0 {
		return false
	}
	if o.held[i].more > 0 {
		o.held[i].more--
		return true
	}
	o.held = slices.Delete(o.held, i, i+1)
	for ; i < len(o.held); i++ {
		before := uint64(0)
		if i > 0 {
			before = o.held[i-1].chain
		}
		o.held[i].chain = o.held[i].follow(before)
	}
	if len(o.held) == 0 {
		delete(s.holders, g)
		if len(s.spare) < maxSpare {
			s.spare = append(s.spare, o)
		}
	}
	return true
}

// heldBy returns what a goroutine holds.
func (k *checker) heldBy(g uintptr) []held {
	s := k.shard(g)
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.holders[g]; o != nil {
		return slices.Clone(o.held)
	}
	return nil
}

// isHeld reports whether anybody holds the lock.
func (k *checker) isHeld(lock any) bool {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		for _, o := range s.holders {
			if slices.ContainsFunc(o.held, func(h held) bool { return h.lock == lock }) {
				s.mu.Unlock()
				return true
			}
		}
		s.mu.Unlock()
	}
	return false
}

// validate checks an order of classes that was not seen before.
//
// Preconditions: no lock of the checker is held.
func (k *checker) validate(before []held, next *held, chain uint64) {
	k.mu.Lock()
	if !k.chains.add(chain, before, next) { // another goroutine was faster
		k.mu.Unlock()
		return
	}
	text := k.graph.check(before, next, k)
	k.mu.Unlock()
	k.print(text)
}

// found counts a violation and returns its report if it is the first.
//
// Preconditions: k.mu is held.
func (k *checker) found(report func() string) string {
	if k.violations.Add(1) > 1 {
		return ""
	}
	k.report = report()
	return k.report
}

// violated is found followed by print, for violations that do not concern the
// graph.
func (k *checker) violated(report func() string) {
	k.mu.Lock()
	text := k.found(report)
	k.mu.Unlock()
	k.print(text)
}

func (k *checker) print(text string) {
	if text == "" || k.quiet {
		return
	}
	if f := output.Load(); f != nil {
		(*f)(text)
		return
	}
	_, _ = os.Stderr.WriteString(text)
}

// checkBalance reports the release of a lock that was not held.
func checkBalance(c *Class, lock any) {
	if k := checking.Load(); k != nil && c != nil {
		k.violated(func() string { return k.unbalanced(c, lock) })
	}
}

// checkInit reports a lock that gets its class while it is held.
func checkInit(c *Class, lock any) {
	if k := checking.Load(); k != nil && k.isHeld(lock) {
		k.violated(func() string { return k.initialized(c, lock) })
	}
}

// depth returns how many locks this goroutine holds. At the end of a callback,
// checkDepth reports the locks that the callback has left held.
func depth() int {
	if k := checking.Load(); k != nil {
		return len(k.heldBy(goroutine()))
	}
	return 0
}

func checkDepth(before int) {
	k := checking.Load()
	if k == nil {
		return
	}
	if all := k.heldBy(goroutine()); len(all) > before {
		k.violated(func() string { return k.left(all[before:]) })
	}
}
