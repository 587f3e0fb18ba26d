package rcu

import (
	"bytes"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"slabfs/internal/rseq"
)

// Where membarrier fails no grace period passes, nothing runs, and nothing is lost.
func TestFenceFails(t *testing.T) {
	d, err := New(Options{Sequences: true})
	if errors.Is(err, rseq.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer rseq.FailFences(false)
	var ran atomic.Int64
	call := func() { d.Call(func() { ran.Add(1) }) }
	for range 3 {
		before := ran.Load()
		early := d.lockAside() // of the phase that the failing grace period ends
		rseq.FailFences(true)
		call()
		for name, f := range map[string]func() error{"Synchronize": d.Synchronize, "Barrier": d.Barrier, "Close": d.Close} {
			if err := f(); !errors.Is(err, ErrFence) {
				t.Fatalf("%s without membarrier: %v; want ErrFence", name, err)
			}
		}
		late := d.lockAside() // of the phase that follows
		call()
		rseq.FailFences(false)
		done := make(chan struct{})
		go func() {
			must(t, d.Synchronize)
			must(t, d.Barrier)
			close(done)
		}()
		for _, token := range []Token{early, late} {
			for range 100 {
				runtime.Gosched()
			}
			select {
			case <-done:
				t.Fatal("a grace period has passed though a reader is left")
			default:
			}
			if ran.Load() != before {
				t.Fatal("a callback has run though a reader is left")
			}
			d.ReadUnlock(token)
		}
		<-done
		if n := ran.Load() - before; n != 2 {
			t.Errorf("%d of 2 callbacks have run", n)
		}
	}
	if d.Stats().FenceErrors == 0 {
		t.Error("failures are not counted")
	}
	// Callbacks that could not run are tried again without anybody's help.
	rseq.FailFences(true)
	call()
	for failed := d.Stats().FenceErrors; d.Stats().FenceErrors == failed; {
		time.Sleep(time.Millisecond)
	}
	rseq.FailFences(false)
	for ran.Load() != 7 {
		time.Sleep(time.Millisecond)
	}
	must(t, d.Barrier)
	rseq.FailFences(true)
	if err := d.Close(); !errors.Is(err, ErrFence) {
		t.Errorf("Close without membarrier: %v; want ErrFence", err)
	}
	rseq.FailFences(false)
	must(t, d.Close)
}

// Barrier is content when the callbacks have run that were there before, whatever becomes
// of the grace period of those that came later.
func TestBarrierIsExact(t *testing.T) {
	d, err := New(Options{Sequences: true})
	if errors.Is(err, rseq.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer rseq.FailFences(false)
	barrier := make(chan error)
	d.Call(func() {
		go func() { barrier <- d.Barrier() }()
		for stacks := make([]byte, 1<<20); ; time.Sleep(time.Millisecond) {
			if n := runtime.Stack(stacks, true); bytes.Contains(stacks[:n], []byte(".(*Work).Flush(")) {
				break // it has asked for another run, which it waits for
			}
		}
		rseq.FailFences(true)
		d.Call(func() {})
	})
	if err := <-barrier; err != nil {
		t.Errorf("Barrier: %v, though its callback has run", err)
	}
	if n := d.Stats().FenceErrors; n == 0 {
		t.Error("the later grace period did not fail")
	}
	rseq.FailFences(false)
	must(t, d.Close)
}
