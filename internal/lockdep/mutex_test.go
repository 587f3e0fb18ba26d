package lockdep

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// setCond puts Mutex on sync.Cond or back, and returns what undoes that.
func setCond(on bool) (undo func()) {
	was, short := useCond, Special.Load()
	useCond = on
	Special.Store(on || Enabled())
	return func() {
		useCond = was
		Special.Store(short)
	}
}

// bothModes runs f with Mutex over sync.Mutex and with Mutex over sync.Cond.
func bothModes(t *testing.T, f func(t *testing.T)) {
	undo := setCond(false)
	t.Run("mutex", f)
	undo()
	defer setCond(true)()
	t.Run("cond", f)
}

// expectPanic runs f, which has to panic with the text want.
func expectPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := recover(); got != want {
			t.Errorf("panic: %v; want %q", got, want)
		}
	}()
	f()
}

func TestMutex(t *testing.T) {
	bothModes(t, func(t *testing.T) {
		var m Mutex
		if m.Class() != nil || m.Class().Name() != "(unnamed)" {
			t.Errorf("class of a new Mutex = %v, %q; want none", m.Class(), m.Class().Name())
		}
		m.Init(Leaf)
		if m.Class() != Leaf || m.Class().Name() != "leaf" {
			t.Errorf("class = %q; want %q", m.Class().Name(), Leaf.Name())
		}
		for range 2 {
			if !m.TryLock() {
				t.Fatal("TryLock of a free Mutex = false")
			}
			if m.TryLock() {
				t.Fatal("TryLock of a held Mutex = true")
			}
			m.Unlock()
			m.Lock()
			if m.TryLock() {
				t.Fatal("TryLock after Lock = true")
			}
			m.Unlock()
		}
	})
}

// TestMutexCondWait checks that synctest sees who waits: its clock advances
// only when it does.
func TestMutexCondWait(t *testing.T) {
	defer setCond(true)()
	synctest.Test(t, func(t *testing.T) {
		var m Mutex
		var order []int
		m.Lock()
		for i := range 3 {
			go func() {
				m.Lock()
				order = append(order, i)
				m.Unlock()
			}()
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if len(order) != 0 {
			t.Errorf("%d goroutines took a held Mutex", len(order))
		}
		m.Unlock()
		if synctest.Wait(); len(order) != 3 {
			t.Errorf("after Unlock %d goroutines took the Mutex; want 3", len(order))
		}
	})
}

func TestMutexUnlockOfUnlocked(t *testing.T) {
	defer setCond(true)()
	var m Mutex
	m.Init(Leaf)
	expectPanic(t, "lockdep: unlock of unlocked leaf", m.Unlock)
	m.Lock()
	m.Unlock()
	expectPanic(t, "lockdep: unlock of unlocked leaf", m.Unlock)
}

// TestMutexUnlockOfUnlockedEnds is for sync.Mutex, which ends the program
// where no recover helps.
func TestMutexUnlockOfUnlockedEnds(t *testing.T) {
	if os.Getenv("LOCKDEP_TEST_UNLOCK") != "" {
		new(Mutex).Unlock()
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMutexUnlockOfUnlockedEnds$")
	cmd.Env = append(os.Environ(), "LOCKDEP_TEST_UNLOCK=1")
	out, err := cmd.CombinedOutput()
	if want := "unlock of unlocked mutex"; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("unlock of an unlocked Mutex: %v, no %q in:\n%s", err, want, out)
	}
}

// BenchmarkMutex compares with sync.Mutex; "cond" is what tests pay, and "checked"
// what everybody pays while the order of locks is checked, "under" that of a second lock.
func BenchmarkMutex(b *testing.B) {
	run := func(name string, l sync.Locker, cond bool) {
		for _, contended := range []string{"alone", "contended"} {
			b.Run(name+"/"+contended, func(b *testing.B) {
				defer setCond(cond)()
				if contended == "alone" {
					for b.Loop() {
						l.Lock()
						l.Unlock()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						l.Lock()
						l.Unlock()
					}
				})
			})
		}
	}
	run("sync", new(sync.Mutex), false)
	run("lockdep", new(Mutex), false)
	run("cond", new(Mutex), true)
	for _, under := range []int{0, 1, 4} {
		b.Run(fmt.Sprint("checked/under=", under), func(b *testing.B) {
			Alone(func() {
				for i := range under {
					m := lock(class(fmt.Sprint("under", i)))
					m.Lock()
					defer m.Unlock()
				}
				m := lock(class("benched"))
				b.ReportAllocs()
				for b.Loop() {
					m.Lock()
					m.Unlock()
				}
			})
		})
	}
}
