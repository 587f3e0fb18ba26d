package percpu

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"unsafe"

	"slabfs/internal/cpu"
)

func TestMain(m *testing.M) {
	prepare()
	if err := Reserve(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func newArea(t *testing.T, capacity int) *Area {
	t.Helper()
	place, err := NewPlace(capacity)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { FreePlace(place, capacity, cpu.MaskOf(0)) })
	return At(place, 0)
}

func TestZeroedAreaIsClosed(t *testing.T) {
	var obj uint64
	for name, a := range map[string]*Area{"fresh": newArea(t, 4), "for ever": At(0, 0)} {
		if a.Pop() != nil || a.Push(unsafe.Pointer(&obj)) || a.PopBulk(make([]uintptr, 1)) != 0 || a.PushBulk([]uintptr{8}) != 0 {
			t.Errorf("%s: a closed area took or gave an object", name)
		}
		if *a != (Area{}) {
			t.Errorf("%s: a refused operation wrote %+v", name, *a)
		}
	}
}

// Capacities of Linux 7 fill their granules but for one word.
func TestDefaultCap(t *testing.T) {
	for _, tc := range []struct{ size, want int }{{1, 60}, {255, 60}, {256, 28}, {1023, 28}, {1024, 12}, {4095, 12}, {4096, 4}, {4 << 20, 4}} {
		if got := DefaultCap(tc.size); got != tc.want {
			t.Errorf("DefaultCap(%d) = %d; want %d", tc.size, got, tc.want)
		}
		if got := Bytes(tc.want); got != headerSize+8*tc.want+8 {
			t.Errorf("an area of %d objects takes %d bytes; want %d", tc.want, got, headerSize+8*tc.want+8)
		}
	}
}

// program runs operations against an area and against a slice.
func program(t *testing.T, prog []byte) {
	const capacity = 12
	a := newArea(t, capacity)
	var model []uintptr
	var pops, next uintptr = 0, 1000
	open := false
	for pc, op := range prog {
		arg := int(op >> 3)
		room := 0
		if open {
			room = capacity - len(model)
		}
		switch op & 7 {
		case 0:
			got := a.Pop()
			if !open || len(model) == 0 {
				if got != nil {
					t.Fatalf("op %d: Pop = %p; want nil", pc, got)
				}
			} else if last := model[len(model)-1]; uintptr(got) != last {
				t.Fatalf("op %d: Pop = %p; want %#x", pc, got, last)
			} else {
				model = model[:len(model)-1]
				pops++
			}
		case 1:
			next++
			if ok := a.Push(Pointer(next)); ok != (room > 0) {
				t.Fatalf("op %d: Push = %v with room for %d", pc, ok, room)
			} else if ok {
				model = append(model, next)
			}
		case 2:
			dst := make([]uintptr, arg)
			want := 0
			if open {
				want = min(arg, len(model))
			}
			if n := a.PopBulk(dst); n != want || !slices.Equal(dst[:n], model[len(model)-n:]) {
				t.Fatalf("op %d: PopBulk(%d) = %d %v; want %d of %v", pc, arg, n, dst, want, model)
			}
			model = model[:len(model)-want]
		case 3:
			src := make([]uintptr, arg)
			for i := range src {
				next++
				src[i] = next
			}
			if n := a.PushBulk(src); n != min(arg, room) {
				t.Fatalf("op %d: PushBulk(%d) = %d with room for %d", pc, arg, n, room)
			}
			model = append(model, src[:min(arg, room)]...)
		case 4:
			a.Open(capacity)
			open = true
		case 5:
			a.Close()
			open = false
		case 6:
			if open {
				continue
			}
			got := a.Drain(nil)
			if !slices.Equal(got, model) {
				t.Fatalf("op %d: Drain = %v; want %v", pc, got, model)
			}
			if arg%2 == 0 {
				a.Undo(got)
			} else {
				model = nil
			}
		}
		if p, level := a.Counts(); a.Level() != len(model) || level != len(model) || p != uint64(pops) {
			t.Fatalf("op %d: level %d, %d, %d pops; want %d, %d", pc, a.Level(), level, p, len(model), pops)
		}
	}
}

func TestPrograms(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		prog := []byte{4}
		for range 60 {
			prog = append(prog, byte(r.Uint32()))
		}
		program(t, prog)
	}
}

func FuzzArea(f *testing.F) {
	f.Add([]byte{4, 1, 1, 0, 0xff, 2, 5, 6, 4, 0})
	f.Fuzz(program)
}

// The count of pops may wrap and must not spill into the level.
func TestPopsWrap(t *testing.T) {
	a := newArea(t, 4)
	a.Open(4)
	a.header = ^uint64(levelMask) // the next pop wraps
	a.Push(Pointer(64))
	if pops, _ := a.Counts(); pops != CountMask {
		t.Errorf("%d pops before the last one; want %d", pops, uint64(CountMask))
	}
	p := a.Pop()
	if pops, level := a.Counts(); uintptr(p) != 64 || level != 0 || pops != 0 {
		t.Errorf("Pop = %p, then level %d and %d pops; want 0x40, 0 and 0", p, level, pops)
	}
}

func BenchmarkPopPush(b *testing.B) {
	place, err := NewPlace(60)
	if err != nil {
		b.Fatal(err)
	}
	defer FreePlace(place, 60, cpu.MaskOf(0))
	a := At(place, 0)
	a.Open(60)
	a.Push(Pointer(64))
	for b.Loop() {
		a.Push(a.Pop())
	}
}
