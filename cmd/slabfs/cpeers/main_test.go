package main

import (
	"testing"
	"time"
	"unsafe"
)

// Producers allocate what consumers free, and no more is counted than the allocator has seen.
func TestXmalloc(t *testing.T) {
	for threads := range 5 {
		x := counting().threads()["xmalloc"](threads)
		x.Prepare()
		n, err := x.Run(10 * time.Millisecond)
		x.Clean()
		mallocs, frees, smallest, largest := seen()
		if err != nil || n != mallocs || n != frees || n%4096 != 0 || n < 4096*max(threads/2, 1) || smallest != 64 || largest != 64 {
			t.Errorf("%d threads: Run = %d, %v; the allocator saw %d objects of %d to %d bytes, %d freed; want multiples of 4096, of 64 bytes",
				threads, n, err, mallocs, smallest, largest, frees)
		}
	}
}

// Slots are filled and shuffled, then each replacement is one free and one malloc, also when threads
// have ended and their heirs go on, which some must have where there are more than their lives have.
func TestLarson(t *testing.T) {
	const slots, life = 5000, 500_000
	for threads := 1; threads <= 3; threads++ {
		l := counting().threads()["larson"](threads)
		l.Prepare()
		before, frees, _, _ := seen()
		if n := threads * slots; before != 5*n || frees != 4*n {
			t.Errorf("%d threads: %d mallocs and %d frees before the run; want %d and %d", threads, before, frees, 5*n, 4*n)
		}
		sum := 0
		for d := 20 * time.Millisecond; ; d *= 2 {
			n, err := l.Run(d)
			if sum += n; err != nil || n < threads*500 || n%500 != 0 {
				t.Fatalf("%d threads: Run = %d, %v; want a multiple of 500", threads, n, err)
			}
			if n > threads*life {
				break
			}
		}
		l.Clean()
		mallocs, frees, smallest, largest := seen()
		if mallocs != before+sum || frees != mallocs || smallest != 8 || largest != 999 {
			t.Errorf("%d threads: %d mallocs, %d frees, of %d to %d bytes; want %d of each, of 8 to 999",
				threads, mallocs, frees, smallest, largest, before+sum)
		}
	}
}

// The loops allocate and free what they are asked for.
func TestLoops(t *testing.T) {
	l := counting()
	objs := make([]unsafe.Pointer, 10)
	border := l.border(24)
	for i, h := range []interface {
		Pairs(int)
		Fill([]unsafe.Pointer)
		Drain([]unsafe.Pointer)
	}{border, &nativeHeap{*border}} {
		h.Pairs(5)
		h.Fill(objs)
		h.Drain(objs)
		if mallocs, frees, smallest, largest := seen(); mallocs != 15*(i+1) || frees != mallocs || smallest != 24 || largest != 24 {
			t.Errorf("loops %d: %d mallocs, %d frees, of %d to %d bytes; want %d of each, of 24", i, mallocs, frees, smallest, largest, 15*(i+1))
		}
	}
}

// Every library that is there has both columns, and those of threads work on it.
func TestPeers(t *testing.T) {
	list := peers()
	if len(list) < 2 || list[0].Name != "malloc" || list[1].Name != "malloc-c" {
		t.Fatalf("peers begin with %+v; want malloc and malloc-c", list)
	}
	for _, p := range list {
		for name, open := range p.Native {
			n := open(2)
			n.Prepare()
			if did, err := n.Run(time.Millisecond); did < 1 || err != nil {
				t.Errorf("%s on %s: Run = %d, %v", name, p.Name, did, err)
			}
			n.Clean()
		}
		if (len(p.Native) == 2) != p.Loops {
			t.Errorf("%s has workloads of its own: %v", p.Name, p.Native)
		}
	}
}
