package alloc

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// useTimers does whatever starts something: callbacks of RCU, the release of a
// cache after a grace period, the return of memory to the system.
func useTimers(t *testing.T, a *Allocator, name string) {
	t.Helper()
	for i := range 2 {
		c := newCache(t, a, fmt.Sprint(name, i), 64, CacheOptions{Flags: TypesafeByRCU})
		section := a.RCU().ReadLock()
		freeAll(c, allocN(t, c, 500))
		c.Shrink()
		a.RCU().ReadUnlock(section)
		if i == 0 {
			must(t, a.RCU().Barrier)
		}
		destroy(t, c)
	}
	must(t, a.RCU().Synchronize)
	a.FreeBytes(a.Bytes(2 * giveAbove)) // after a second some of it goes back
	if err := a.SetOnline(0, false); err == nil {
		setOnline(t, a, 0, true)
	}
	mustWork(t, a)
}

func must(t *testing.T, f func() error) {
	t.Helper()
	if err := f(); err != nil {
		t.Error(err)
	}
}

// An allocator may be made outside of a bubble of testing/synctest and used and
// closed inside, or outside again, or all of it inside.
func TestBubble(t *testing.T) {
	for _, e := range []Engine{Auto, Lock} {
		for _, tc := range []struct {
			name                 string
			used1, used2, closed bool // in a bubble, each in one of its own
		}{
			{name: "used inside, then outside", used1: true},
			{name: "closed inside", closed: true},
			{name: "used and closed inside", used1: true, used2: true, closed: true},
		} {
			t.Run(fmt.Sprintf("engine=%v/%s", e, tc.name), func(t *testing.T) {
				in := func(bubble bool, f func(t *testing.T)) {
					if bubble {
						synctest.Test(t, f)
					} else {
						f(t)
					}
				}
				a := newAllocator(t, Options{Engine: e})
				in(tc.used1, func(t *testing.T) { useTimers(t, a, "first") })
				in(tc.used2, func(t *testing.T) { useTimers(t, a, "second") })
				soon("the release", func() bool { n, _ := a.RCUReleases(); return n == 4 && a.MemoryWaiting() == 0 })
				in(tc.closed, func(t *testing.T) { must(t, a.Close) })
			})
		}
		t.Run(fmt.Sprintf("engine=%v/all inside", e), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, err := New(Options{Engine: e})
				if err != nil {
					t.Fatal(err)
				}
				useTimers(t, a, "inside")
				time.Sleep(2 * giveAfter)
				must(t, a.Close)
			})
		})
	}
}

// Memory that is freed in a bubble goes back, after a second of the world's.
func TestBubbleReturnsMemory(t *testing.T) {
	a := newAllocator(t, Options{})
	returns := a.MemoryReturns()
	synctest.Test(t, func(t *testing.T) { a.FreeBytes(a.Bytes(4 * giveAbove)) })
	soon("the return of memory", func() bool { return a.MemoryReturns() > returns })
}

// A goroutine of a bubble waits for a publish under way outside, and is woken.
func TestBubbleWaits(t *testing.T) {
	for what, wait := range map[string]func(a *Allocator, detach func()) error{
		"detach": func(_ *Allocator, detach func()) error { detach(); return nil },
		"Close":  func(a *Allocator, _ func()) error { return a.Close() },
		"create": func(a *Allocator, _ func()) error {
			c, err := a.NewCache("link", 64, CacheOptions{})
			if err == nil {
				err = c.Destroy()
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			a := newAllocator(t, Options{Merge: true})
			tree := newTree(t, "A")
			blocked, goOn := make(chan struct{}), make(chan struct{})
			tree.publish = func(c *Cache) error {
				if c.Name() == ":0000064" {
					close(blocked)
					<-goOn
				}
				return nil
			}
			detach := tree.attach(a)
			made := make(chan *Cache, 1)
			go func() { made <- newCache(t, a, "slow", 64, CacheOptions{}) }()
			<-blocked
			time.AfterFunc(5*time.Millisecond, func() { close(goOn) }) // most often that is while it waits
			synctest.Test(t, func(t *testing.T) { must(t, func() error { return wait(a, detach) }) })
			if c := <-made; what != "Close" {
				destroy(t, c)
			}
		})
	}
}
