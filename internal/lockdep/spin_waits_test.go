//go:build !race

package lockdep

import (
	"testing"
	"testing/synctest"
	"time"
)

// While somebody is hungry others stand back, until they are hungry too.
func TestSpinStandsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Spin
		s.Init(Leaf)
		lock := func() time.Duration {
			start := time.Now()
			s.Lock()
			defer s.Unlock()
			return time.Since(start)
		}
		if took := lock(); took != 0 {
			t.Errorf("a free lock took %v; want no sleep", took)
		}
		s.word.Add(hungry)
		if took, want := lock(), nap+2*nap+(naps-2)*maxNap; took != want {
			t.Errorf("a free lock that somebody hungry waits for took %v; want %v", took, want)
		}
		if n := s.word.Add(^uint64(hungry - 1)); n != 0 {
			t.Errorf("the word is %#x; want 0: nobody is hungry or holds it", n)
		}
		if took := lock(); took != 0 {
			t.Errorf("a free lock took %v afterwards; want no sleep", took)
		}
	})
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

// To testing/synctest who waits is asleep, or waits for a Mutex with UseCond, which it sees too.
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
			time.Sleep(time.Second)
			if len(got) > 0 {
				t.Error("two goroutines hold the lock")
			}
			s.Unlock()
			<-got
		})
	})
}
