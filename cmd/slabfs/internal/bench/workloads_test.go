package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slabfs/alloc"
)

// beds opens every column.
func beds(t *testing.T, f func(t *testing.T, col *column, a *alloc.Allocator)) {
	for _, col := range columns {
		if col.heap == nil {
			continue
		}
		t.Run(col.name, func(t *testing.T) {
			a, err := alloc.New(alloc.Options{Engine: col.engine})
			if errors.Is(err, alloc.ErrNotBuilt) && col.engine == alloc.RSeq {
				return // its column is left out, which TestCells sees
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}()
			f(t, col, a)
		})
	}
}

// Each object is one's own, whichever allocator it is from, and as large as it was asked for.
func TestHeaps(t *testing.T) {
	beds(t, func(t *testing.T, col *column, a *alloc.Allocator) {
		for size := range shapes {
			h, err := col.heap(a, fmt.Sprintf("test-%d", size), size)
			if err != nil {
				t.Fatal(err)
			}
			h.pairs(3)
			objs := make([]ref, 300)
			for round := range 2 { // the second gets what was free
				h.fill(objs[1:])
				objs[0] = h.alloc()
				for i, obj := range objs {
					set(obj, size, byte(i+round))
				}
				for i, obj := range objs {
					if want := bytes.Repeat([]byte{byte(i + round)}, size); !bytes.Equal(view(obj, size), want) {
						t.Fatalf("object %d of %d bytes was written to by another one", i, size)
					}
				}
				h.free(objs[0])
				h.drain(objs[1:])
			}
			if b, ok := h.(interface{ bulk([]ref, int) }); ok {
				b.bulk(objs, 2)
			}
			h.trim()
			if err := h.close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestBytes(t *testing.T) {
	beds(t, func(t *testing.T, col *column, a *alloc.Allocator) {
		if col.bytes == nil {
			t.Skip("it has objects only")
		}
		h := col.bytes(a)
		h.pairs(3, 100)
		for range 2 {
			var all [][]byte
			for size := 1; size < 100_000; size = size*5/4 + 1 {
				b := h.alloc(size)
				if len(b) != size {
					t.Fatalf("%d bytes instead of %d", len(b), size)
				}
				copy(b, bytes.Repeat([]byte{byte(size)}, size))
				all = append(all, b)
			}
			for _, b := range all {
				if !bytes.Equal(b, bytes.Repeat([]byte{byte(len(b))}, len(b))) {
					t.Fatalf("a slice of %d bytes was written to by another one", len(b))
				}
				h.free(b)
			}
		}
		h.trim()
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
}

// mstress finds a block that was handed out twice, and one that somebody else wrote to.
func TestStressFindsDamage(t *testing.T) {
	for name, damage := range map[string]func(s *stress) *block{
		"twice": func(s *stress) *block {
			first, second := s.alloc(newRand(), 8), s.alloc(newRand(), 8)
			first.b = second.b
			return first
		},
		"overwritten": func(s *stress) *block {
			b := s.alloc(newRand(), 8)
			b.b[40] ^= 1
			return b
		},
	} {
		s := &stress{heap: openMake(nil)}
		if s.free(damage(s)); s.failed.Load() == nil || !strings.Contains((*s.failed.Load()).Error(), "somebody else wrote to it") {
			t.Errorf("%s: not found", name)
		}
	}
}

// counter wraps an allocator and counts.
type counter struct {
	heap
	in, out atomic.Int64
}

func (c *counter) fill(objs []ref) {
	c.in.Add(int64(len(objs)))
	c.heap.fill(objs)
}

func (c *counter) drain(objs []ref) {
	c.out.Add(int64(len(objs)))
	c.heap.drain(objs)
}

// xmalloc frees all that it allocates, however the run ends.
func TestExchange(t *testing.T) {
	h, _ := openNew(nil, "", xmallocSize)
	for pairs := range 3 {
		c := &counter{heap: h}
		made, freed := newExchange(c).run(pairs+1, time.Millisecond)
		if made != freed || made < xmallocBatch*(pairs+1) || made%xmallocBatch != 0 || int64(made) != c.in.Load() || int64(freed) != c.out.Load() {
			t.Errorf("%d producers: %d objects made, %d freed; the allocator saw %d and %d", pairs+1, made, freed, c.in.Load(), c.out.Load())
		}
	}
}

// Threads of larson end and go on as others, until the run ends.
func TestLarson(t *testing.T) {
	l := &larsonServer{heap: openMake(nil), slots: make([][]byte, 2*larsonSlots)}
	if err := l.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, b := range l.slots {
		if len(b) < larsonMin || len(b) >= larsonMax {
			t.Fatalf("a slice of %d bytes", len(b))
		}
	}
	n, err := l.run(time.Millisecond)
	if n < 1 || err != nil {
		t.Errorf("run = %d, %v", n, err)
	}
	l.heap = none{l.heap}
	if _, err := l.run(time.Millisecond); err == nil {
		t.Error("run goes on without memory")
	}
}

// none has no memory.
type none struct{ bytesHeap }

func (none) alloc(int) []byte { return nil }

// A scripted is a workload of a peer's own.
type scripted struct{ calls []string }

func (s *scripted) Prepare() { s.calls = append(s.calls, "prepare") }
func (s *scripted) Clean()   { s.calls = append(s.calls, "clean") }
func (s *scripted) Run(d time.Duration) (int, error) {
	s.calls = append(s.calls, fmt.Sprint("run ", d))
	return 42, nil
}

// A peer's own xmalloc takes the place of the loops, also where its allocator serves one thread's loops only.
func TestNative(t *testing.T) {
	before := slices.Clone(columns)
	defer func() { columns = before }()
	s := new(scripted)
	threads := 0
	Register(Peer{Name: "own", Loops: true, Native: map[string]func(int) Native{"xmalloc": func(n int) Native {
		threads = n
		return s
	}}})
	c := small("xmalloc", "larson", "freer")
	c.Allocators, c.Goroutines = []string{"own", slabfsLock}, 7
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, sample := range report.Samples {
		if sample.Allocator == "own" {
			rows = append(rows, fmt.Sprint(sample.Row, " ", sample.N, " ", len(sample.Values)))
		}
	}
	rows = slices.Compact(rows) // more than one, if F moved
	if want := []string{"xmalloc 42 1"}; threads != 7 || !slices.Equal(rows, want) {
		t.Errorf("%d threads, samples %q; want 7, %q", threads, rows, want)
	}
	if got := strings.Join(s.calls[:3], ", "); got != "prepare, run 1ms, clean" {
		t.Errorf("calls: %s", got)
	}
}

// A slow first operation does not make a cell do too few.
func TestCalibrate(t *testing.T) {
	c, runs := new(cell), 0
	c.calibrate(time.Millisecond, func(n int) time.Duration {
		if runs++; runs == 1 {
			return time.Second
		}
		return time.Duration(n) * time.Microsecond
	})
	if c.n != 1000 {
		t.Errorf("%d operations of 1 µs take 1 ms; want 1000", c.n)
	}
}

func TestSelect(t *testing.T) {
	names := []string{"pair", "deep", "deep-reverse", "gc"}
	for _, tc := range []struct {
		patterns []string
		want     []string
		err      string
	}{
		{[]string{"gc", "pair", "gc"}, []string{"gc", "pair"}, ""},
		{[]string{"all"}, names, ""},
		{[]string{"pair", "deep*"}, []string{"pair", "deep", "deep-reverse"}, ""},
		{[]string{"pear"}, nil, `unknown workload "pear"; want all, or some of pair, deep`},
		{[]string{"[p"}, nil, `bad pattern "[p" of workloads`},
	} {
		got, err := Select("workload", names, tc.patterns)
		if !slices.Equal(got, tc.want) || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("Select(%q) = %q, %v; want %q, %q", tc.patterns, got, err, tc.want, tc.err)
		}
	}
}

// The client of retune writes as often as it is told, to one file after the other, and tells what went wrong.
func TestClient(t *testing.T) {
	dir := t.TempDir()
	var stores []store
	for _, name := range []string{"a", "b"} {
		stores = append(stores, store{filepath.Join(dir, name), name + "\n"})
		if err := os.WriteFile(stores[len(stores)-1].File, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := client(stores, json.NewDecoder(strings.NewReader("1\n2\n")), &out); err != nil || out.String() != "{}\n{}\n" {
		t.Errorf("client says %q, %v", out.String(), err)
	}
	for _, s := range stores {
		if got, err := os.ReadFile(s.File); string(got) != s.Text || err != nil {
			t.Errorf("%s holds %q, %v", s.File, got, err)
		}
	}
	out.Reset()
	stores[1].File = filepath.Join(dir, "none")
	if err := client(stores, json.NewDecoder(strings.NewReader("1\n")), &out); err != nil || !strings.Contains(out.String(), `"Error":"open `) {
		t.Errorf("client says %q, %v; want that a file is missing", out.String(), err)
	}
}
