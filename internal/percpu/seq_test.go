//go:build linux && amd64 && !race

package percpu

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/rseq"
)

// startSequences returns the area of CPU 0 of a fresh place, open on each CPU.
func startSequences(t testing.TB, capacity int) (unsafe.Pointer, Place) {
	t.Helper()
	if err := StartSequences(nil); err != nil {
		t.Fatal(err)
	}
	place, err := NewPlace(capacity)
	if err != nil {
		t.Fatal(err)
	}
	for n := range cpu.Possible().All() {
		At(place, n).Open(capacity)
	}
	t.Cleanup(func() { FreePlace(place, capacity, cpu.Possible()) })
	return unsafe.Pointer(At(place, 0)), place
}

// Where a limit on address space made the regions smaller, the constant in the
// sequences is wrong.
func TestSmallRegions(t *testing.T) {
	defer func(shift uint) { regions.shift = shift }(regions.shift)
	regions.shift--
	if err := StartSequences(nil); !errors.Is(err, rseq.ErrUnsupported) {
		t.Errorf("StartSequences with regions of 2^%d bytes: %v; want ErrUnsupported", regions.shift, err)
	}
}

func TestSequences(t *testing.T) {
	base, place := startSequences(t, 12)
	rseq.Register()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if obj := PopSeq(base); obj != nil {
		t.Errorf("PopSeq of an empty area = %p", obj)
	}
	for n := range cpu.Possible().All() { // others stay closed: this thread may be anywhere
		At(place, n).Close()
	}
	if PushSeq(base, Pointer(64)) || PopSeq(base) != nil {
		t.Error("a closed area took or gave an object")
	}
}

// Goroutines move words between areas and their own hands; none is lost, none doubled.
func TestConservation(t *testing.T) {
	base, place := startSequences(t, 28)
	const words, workers = 100, 8
	owner := make([]atomic.Int32, words+1) // who holds a word: 0 nobody
	var wg sync.WaitGroup
	deadline := make(chan struct{})
	fresh := make(chan uintptr, words)
	for w := range words {
		fresh <- uintptr(w + 1)
	}
	var ops atomic.Int64
	for g := range workers {
		wg.Go(func() {
			me := int32(g + 1)
			hold := func(w uintptr) {
				if !owner[w].CompareAndSwap(0, me) {
					t.Errorf("word %d is handed out while %d holds it", w, owner[w].Load())
				}
			}
			drop := func(w uintptr) {
				if !owner[w].CompareAndSwap(me, 0) {
					t.Errorf("word %d is not held by %d", w, me)
				}
			}
			put := func(w uintptr) {
				drop(w)
				if !PushSeq(base, Pointer(w)) {
					fresh <- w
				}
			}
			buf := make([]uintptr, 10)
			for i := 0; ; i++ {
				select {
				case <-deadline:
					return
				default:
				}
				rseq.Register()
				ops.Add(1)
				if i%3 == 0 {
					n, _ := PopBulkSeq(base, buf)
					for _, w := range buf[:n] {
						hold(w)
					}
					for _, w := range buf[:n] {
						drop(w)
					}
					k, _ := PushBulkSeq(base, buf[:n])
					for _, w := range buf[k:n] {
						fresh <- w
					}
					continue
				}
				w := uintptr(PopSeq(base))
				if w == 0 {
					select {
					case w = <-fresh:
					default:
						continue
					}
				}
				hold(w)
				put(w)
			}
		})
	}
	// Meanwhile sheaves are closed, drained and reopened, all at once.
	for range 20000 {
		var drained [][]uintptr
		for n := range cpu.Possible().All() {
			At(place, n).Close()
		}
		if err := rseq.Fence(); err != nil {
			t.Fatal(err)
		}
		for n := range cpu.Possible().All() {
			a := At(place, n)
			objs := a.Drain(nil)
			a.Undo(objs)
			drained = append(drained, objs)
		}
		for n := range cpu.Possible().All() {
			At(place, n).Open(28)
		}
		for _, objs := range drained {
			for _, w := range objs {
				if w == 0 || w > words {
					t.Fatalf("word %d in an area", w)
				}
			}
		}
	}
	close(deadline)
	wg.Wait()
	seen := make(map[uintptr]int)
	for n := range cpu.Possible().All() {
		for _, w := range At(place, n).Drain(nil) {
			seen[w]++
		}
	}
	for len(fresh) > 0 {
		seen[<-fresh]++
	}
	for w := uintptr(1); w <= words; w++ {
		if seen[w] != 1 {
			t.Errorf("word %d is there %d times; want once", w, seen[w])
		}
	}
	aborts := uint64(0)
	for n := range cpu.Possible().All() {
		aborts += AbortCount(n)
	}
	t.Logf("%d operations, %d aborts", ops.Load(), aborts)
}

func BenchmarkSeqPopPush(b *testing.B) {
	base, _ := startSequences(b, 60)
	rseq.Register()
	for !PushSeq(base, Pointer(64)) {
	}
	for b.Loop() {
		seqPush(base, seqPop(base))
	}
}
