package fusefs

import (
	"fmt"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// A goroutine in a bubble of testing/synctest adds and removes what a server
// shows that was made outside, while the kernel knows of it. The server's own
// goroutines, which tell the kernel, are not in the bubble.
func TestBubble(t *testing.T) {
	if !inPlainChild(t) {
		return
	}
	x := newFixture()
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	for i := range 20 {
		name := fmt.Sprint("inner", i)
		var k *sysfs.Kobject
		c.OK(Op{Do: "stat", Path: s.at("cache")})
		synctest.Test(t, func(t *testing.T) {
			var err error
			if k, err = x.cache.Add(name, nil); err != nil {
				t.Fatal(err)
			}
		})
		c.OK(Op{Do: "stat", Path: s.at("cache", name)})
		synctest.Test(t, func(*testing.T) { k.Remove() })
		if got := c.Do(Op{Do: "stat", Path: s.at("cache", name)}).Errno; got != unix.ENOENT {
			t.Errorf("stat of what was removed in a bubble: %v; want ENOENT", got)
		}
	}
	if got := s.Stats().Notified; got == 0 {
		t.Error("the kernel was told of no removal")
	}
}

// A caller in a bubble waits for what an aside runs outside of it.
func TestAside(t *testing.T) {
	if !inPlainChild(t) {
		return
	}
	quit, ran := make(chan struct{}), 0
	a := newAside(quit)
	outside := make(chan int)
	go func() {
		for i := range outside {
			ran += i
		}
		close(quit)
	}()
	synctest.Test(t, func(*testing.T) {
		for i := range 5 {
			a.do(func() { outside <- i })
		}
	})
	close(outside)
	<-quit
	a.do(func() { t.Error("run after quit") })
	if ran != 10 {
		t.Errorf("what ran comes to %d; want 10", ran)
	}
}
