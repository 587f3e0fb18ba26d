package leaktest

import (
	"strings"
	"testing"
	"testing/synctest"
)

// wait is a goroutine that ends when it is told.
func wait(end <-chan struct{}) { <-end }

func TestLeft(t *testing.T) {
	old, end := make(chan struct{}), make(chan struct{})
	defer close(old)
	go wait(old)
	before := Take()
	if err := before.Left(); err != nil {
		t.Errorf("with a goroutine from before: %v; want nil", err)
	}
	go wait(end)
	close(end)
	if err := before.Left(); err != nil {
		t.Errorf("after a goroutine that ended: %v; want nil", err)
	}
}

func TestLeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose clock shows when patience ends
		before := Take()
		end := make(chan struct{})
		defer close(end)
		go wait(end)
		err := before.Left()
		if err == nil || !strings.Contains(err.Error(), "1 goroutines are left") || !strings.Contains(err.Error(), "leaktest.wait(") {
			t.Errorf("with a goroutine that does not end: %v; want its stack", err)
		}
	})
}
