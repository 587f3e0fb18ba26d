package lockdep

import (
	"runtime"
	"sync"
	"testing"
)

func TestCallback(t *testing.T) {
	expect := func(want bool) {
		t.Helper()
		if got := InCallback(); got != want {
			t.Errorf("InCallback() = %v; want %v", got, want)
		}
	}
	expect(false)
	outer := Callback()
	expect(true)
	inner := Callback()
	var wg sync.WaitGroup
	wg.Go(func() { // another goroutine is not inside, and has its own count
		expect(false)
		leave := Callback()
		expect(true)
		leave()
		expect(false)
	})
	wg.Wait()
	inner()
	expect(true)
	outer()
	expect(false)
	if n := len(callbacks.in); n != 0 {
		t.Errorf("%d goroutines are kept after their callbacks", n)
	}
}

// What callbacks are about adds up from the outermost to the innermost, for one goroutine.
func TestCallbackAbout(t *testing.T) {
	a, b, c := new(int), new(int), new(int)
	expect := func(wantA, wantB, wantC bool) {
		t.Helper()
		if gotA, gotB, gotC := InCallbackAbout(a), InCallbackAbout(b), InCallbackAbout(c); gotA != wantA || gotB != wantB || gotC != wantC {
			t.Errorf("about a: %v, b: %v, c: %v; want %v, %v, %v", gotA, gotB, gotC, wantA, wantB, wantC)
		}
	}
	expect(false, false, false)
	outer := Callback(a, []int{1}) // which cannot be compared
	expect(true, false, false)
	plain := Callback()
	expect(true, false, false)
	inner := Callback(nil, b, a)
	expect(true, true, false)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer Callback(c)()
		expect(false, false, true)
	})
	wg.Wait()
	inner()
	expect(true, false, false)
	plain()
	outer()
	expect(false, false, false)
}

// TestCallbackUnwinds leaves a callback as panics and runtime.Goexit do.
func TestCallbackUnwinds(t *testing.T) {
	func() {
		defer func() { _ = recover() }()
		defer Callback()()
		panic("in a callback")
	}()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer Callback()()
		runtime.Goexit()
	})
	wg.Wait()
	if n := len(callbacks.in); InCallback() || n != 0 {
		t.Errorf("after a panic and a Goexit: InCallback() = %v, %d goroutines are kept", InCallback(), n)
	}
}

func TestGoroutine(t *testing.T) {
	const goroutines = 1000
	var ids [goroutines]uintptr
	var all, end sync.WaitGroup
	all.Add(goroutines)
	for i := range ids {
		end.Go(func() {
			ids[i] = Goroutine()
			all.Done()
			all.Wait() // each is alive
			growStack(100)
			runtime.Gosched()
			if now := Goroutine(); now != ids[i] {
				t.Errorf("goroutine %d: its number was %#x and is %#x", i, ids[i], now)
			}
		})
	}
	end.Wait()
	seen := map[uintptr]int{0: -1}
	for i, id := range ids {
		if j, ok := seen[id]; ok {
			t.Errorf("goroutines %d and %d have the number %#x", j, i, id)
		}
		seen[id] = i
	}
}

// growStack makes the runtime move the stack.
func growStack(n int) byte {
	var frame [1024]byte
	if n > 0 {
		frame[n] = growStack(n - 1)
	}
	return frame[n]
}

func BenchmarkCallback(b *testing.B) {
	b.Run("Callback", func(b *testing.B) {
		for b.Loop() {
			Callback()()
		}
	})
	b.Run("InCallback", func(b *testing.B) {
		for b.Loop() {
			InCallback()
		}
	})
	b.Run("Goroutine", func(b *testing.B) {
		for b.Loop() {
			Goroutine()
		}
	})
}
