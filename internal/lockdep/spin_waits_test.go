//go:build !race

package lockdep

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// While somebody is hungry others stand back, until they are hungry too.
func TestSpinStandsBack(t *testing.T) {
	var s Spin
	s.Init(Leaf)
	s.word.Add(hungry)
	start := time.Now()
	s.Lock()
	if took, want := time.Since(start), nap+2*nap+(naps-2)*maxNap; took < want {
		t.Errorf("a free lock that somebody hungry waits for took %v; want %v at least", took, want)
	}
	s.Unlock()
	if n := s.word.Add(^uint64(hungry - 1)); n != 0 {
		t.Errorf("the word is %#x; want 0: nobody is hungry or holds it", n)
	}
}

// With UseCond the Mutex is what is locked; the assembly jumps to unlockSpecial.
func TestSpinCond(t *testing.T) {
	defer setCond(true)()
	var s Spin
	s.Init(Leaf)
	for name, unlock := range map[string]func(*Spin){"Unlock": (*Spin).Unlock, "unlockSpecial": unlockSpecial} {
		s.Lock()
		if s.word.Load() != 0 || s.mu.TryLock() {
			t.Errorf("Lock takes the word, %#x, or leaves the Mutex free", s.word.Load())
		}
		unlock(&s)
		if !s.mu.TryLock() {
			t.Fatalf("%s leaves the Mutex locked", name)
		}
		s.mu.Unlock()
	}
}

// In a bubble of testing/synctest a wait takes no time of the bubble, and its timers are not
// needed: they would wait until all others sleep.
func TestSpinInBubble(t *testing.T) {
	bothModes(t, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var s Spin
			s.Init(Leaf)
			got := make(chan bool, 1)
			s.Lock()
			go func() {
				s.Lock()
				got <- true
				s.Unlock()
			}()
			begin := time.Now()
			for range 20_000 { // longer than it spins
				runtime.Gosched()
			}
			if len(got) > 0 {
				t.Error("two goroutines hold the lock")
			}
			s.Unlock()
			<-got
			if d := time.Since(begin); d != 0 {
				t.Errorf("a wait took %v in a bubble where nobody sleeps", d)
			}
		})
	})
}
