package lockdep

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// A bench runs programs.
type bench struct {
	held map[byte][]func() // by letter of the class: what releases
	take func(c *Class, how Mode) (release func())
}

// letters are the classes of programs. Classes live for ever, so all share them.
var letters = map[byte]*Class{'A': NewClass("A"), 'B': NewClass("B"), 'C': NewClass("C"), 'D': NewClass("D")}

// run runs a program with a checker of its own and returns the report. In a
// program each word is a thread, all run one after the other. Capital letters
// acquire a lock of that class in the default mode, small ones release; w, r, q
// and t before a capital letter: for writing, shared, as a recursive reader, trying.
func (b *bench) run(program string, how Mode) (report string) {
	b.held = make(map[byte][]func())
	return Alone(func() {
		for thread := range strings.FieldsSeq(program) {
			mode, try := how, Mode(0)
			for _, op := range []byte(thread) {
				switch {
				case op >= 'A' && op <= 'Z':
					b.held[op] = append(b.held[op], b.take(letters[op], mode|try))
					mode, try = how, 0
				case op == 'w':
					mode = Exclusive
				case op == 'r':
					mode = Shared
				case op == 'q':
					mode = Recursive
				case op == 't':
					try = Try
				default:
					op -= 'a' - 'A'
					all := b.held[op]
					all[len(all)-1]()
					b.held[op] = all[:len(all)-1]
				}
			}
		}
	})
}

// The kinds of locks that there are. Each takes a new instance.
var kinds = []struct {
	name   string
	how    Mode
	blocks bool // what holds it makes others of the kind wait
	take   func(c *Class, how Mode) func()
}{
	{"Mutex", Exclusive, true, func(c *Class, how Mode) func() {
		m := new(Mutex)
		m.Init(c)
		if how&Try != 0 {
			m.TryLock()
		} else {
			m.Lock()
		}
		return m.Unlock
	}},
	{"Spin", Exclusive, true, func(c *Class, how Mode) func() {
		s := new(Spin)
		s.Init(c)
		if how&Try != 0 {
			s.TryLock()
		} else {
			s.Lock()
		}
		return s.Unlock
	}},
	{"RWSem.Lock", Exclusive, true, func(c *Class, _ Mode) func() {
		s := new(RWSem)
		s.Init(c)
		s.Lock()
		return s.Unlock
	}},
	{"RWSem.RLock", Shared, true, func(c *Class, _ Mode) func() {
		s := new(RWSem)
		s.Init(c)
		s.RLock()
		return s.RUnlock
	}},
	{"exclusive", Exclusive, true, annotate},
	{"shared", Shared, true, annotate},
	{"recursive", Recursive, false, annotate},
}

func annotate(c *Class, how Mode) func() {
	lock := new([2]byte) // not empty: each has an address of its own
	Acquire(c, lock, how)
	return func() { Release(c, lock) }
}

// TestSelf is Linux's list (lib/locking-selftest.c, 6.1) as far as such locks are here.
func TestSelf(t *testing.T) {
	for _, k := range kinds {
		b := &bench{take: k.take}
		for name, program := range map[string]string{
			"AA":                "AAaa",
			"ABBA":              "ABba BAab",
			"ABBCCA":            "ABba BCcb CAac",
			"ABCABC":            "ABba CAac BCcb",
			"ABBCCDDA":          "ABba BCcb CDdc DAad",
			"ABCDBDDA":          "ABba CDdc BDdb DAad",
			"ABCDBCDA":          "ABba CDdc BCcb DAad",
			"unordered release": "ABab BAba",
		} {
			expect(t, k.name+" "+name, b.run(program, k.how), k.blocks)
		}
		for name, program := range map[string]string{
			"once each":          "Aa Bb Aa",
			"one order":          "ABCcba ACca BCcb ABba",
			"released between":   "ABba BbAa",
			"hand over hand":     "ABaCbDcd ABba CDdc",
			"same after release": "AaAa",
		} {
			expect(t, k.name+" "+name, b.run(program, k.how), false)
		}
	}
}

// TestModes is the part of the list that mixes readers, writers and tries.
func TestModes(t *testing.T) {
	b := &bench{take: annotate}
	for _, tc := range []struct {
		program string
		report  bool
	}{
		// Twice the same.
		{"qAqAaa", false}, {"rAqAaa", false}, {"rArAaa", true}, {"qArAaa", true},
		{"rAwAaa", true}, {"wArAaa", true}, {"qAwAaa", true}, {"wAqAaa", true}, {"wAwAaa", true},
		{"wAtwAaa", false}, {"rAtrAaa", false},
		// A reader of one, a writer of the other.
		{"rAwBba rBwAab", true}, {"qAwBba qBwAab", true}, {"wArBba wBrAab", true}, {"wAqBba wBqAab", true},
		{"wArBba rBwAab", true}, {"wAqBba qBwAab", false}, {"wAqBba rBwAab", false}, {"wArBba qBwAab", true},
		// Readers of both.
		{"qAqBba qBqAab", false}, {"rArBba rBrAab", true}, {"rAqBba rBqAab", false}, {"qArBba qBrAab", true},
		// A chain that was seen with a weaker mode does not stand for this one.
		{"qAwBba wBqAab", false}, {"qAwBba wBqAab wBwAab", true}, {"qAwBba wBqAab wBrAab", true},
		// Three threads, each order of the three.
		{"wAwBba qBqCcb wCqAac", true}, {"qBqCcb wCqAac wAwBba", true}, {"wCqAac wAwBba qBqCcb", true},
		{"wAqBba qBqCcb wCwAac", false}, {"qBqCcb wCwAac wAqBba", false}, {"wCwAac wAqBba qBqCcb", false},
		{"wAqBba qBqCcb wCqAac", false}, {"wAwBba qBqCcb qCqAac", false}, {"wAwBba rBrCcb rCrAac", true},
		// Who tries does not wait, but holds.
		{"AtBba BtAab", false}, {"AtBba BAab", false}, {"tABba BAab", true}, {"tABba BtAab", false},
		{"AtBCcba CAac", true}, {"AtBCcba CBbc", true}, {"AtBCcba BCcb", false}, {"tAtBCcba CAac", true},
		// What is below a recursive reader waits for what follows.
		{"wAqBwCcba wCwAac", true}, {"wAqBqCcba wCwAac", true}, {"wAqBqCcba qCwAac", false},
	} {
		expect(t, tc.program, b.run(tc.program, Exclusive), tc.report)
	}
}

func expect(t *testing.T, name, report string, want bool) {
	t.Helper()
	if got := report != ""; got != want {
		t.Errorf("%s: reported: %v; want %v\n%s", name, got, want, report)
	}
}

// TestOracle compares the checker with a search for a deadlock through all ways
// in which the threads of a program can meet, with a writer of each lock at any time.
//
// Of threads that hold two locks at once the checker knows for certain. With three,
// the outermost may keep apart those who would meet, which it does not count on.
func TestOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	b := &bench{take: annotate}
	verdicts := make(map[bool]int)
	for n := range 600 {
		var threads []string
		for range 1 + r.IntN(3) {
			begin, end := "", ""
			for _, c := range r.Perm(3)[:2+n%2] {
				begin += fmt.Sprintf("%c%c", "wrq"[r.IntN(3)], 'A'+c)
				end = string(rune('a'+c)) + end
			}
			threads = append(threads, begin+end)
		}
		program := strings.Join(threads, " ")
		want := canDeadlock(threads)
		verdicts[want]++
		if report := b.run(program, Exclusive); want || n%2 == 0 {
			expect(t, program, report, want)
		}
	}
	if len(verdicts) != 2 {
		t.Errorf("programs that can deadlock and cannot: %v; want some of each", verdicts)
	}
}

// A state is where each thread of a program is: twice the position, and 1 more if
// it waits there as a writer. The first three are the writers that may come.
type state [6]uint8

// canDeadlock reports whether the threads, or some of them, can come to wait for
// each other for ever.
func canDeadlock(threads []string) bool {
	threads = append([]string{"wAa", "wBb", "wCc"}, threads...)
	seen := make(map[state]bool)
	var search func(state) bool
	search = func(s state) bool {
		if seen[s] {
			return false
		}
		seen[s] = true
		var writers, readers, queued [3]int // by lock
		for i, ops := range threads {
			for pc := range int(s[i] / 2) {
				switch c := ops[pc]; {
				case c == 'w':
					writers[ops[pc+1]-'A']++
				case c == 'r', c == 'q':
					readers[ops[pc+1]-'A']++
				case c >= 'a' && c <= 'c':
					if strings.Contains(ops, "w"+string(rune(c-'a'+'A'))) {
						writers[c-'a']--
					} else {
						readers[c-'a']--
					}
				}
			}
			if s[i]%2 == 1 {
				queued[ops[s[i]/2+1]-'A']++
			}
		}
		stuck, moved := false, false
		for i, ops := range threads {
			pc := int(s[i] / 2)
			if pc == len(ops) {
				continue
			}
			next := s
			next[i] = uint8(2 * (pc + 1))
			if op := ops[pc]; op == 'w' || op == 'r' || op == 'q' {
				c := ops[pc+1] - 'A'
				next[i] += 2
				if writers[c] > 0 || op == 'w' && readers[c] > 0 || op == 'r' && queued[c] > 0 {
					stuck = true
					if op != 'w' || s[i]%2 == 1 {
						continue
					}
					next[i] = s[i] + 1
				}
			}
			moved = true
			if search(next) {
				return true
			}
		}
		return stuck && !moved
	}
	return search(state{})
}
