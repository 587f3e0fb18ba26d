package rseq

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
)

// need skips the test where the kernel, or a filter, has no sequences. Where it
// has them, Start must succeed.
func need(tb testing.TB) {
	tb.Helper()
	const queryMembarrier = 0
	if e := sysRseq(nil, 0, 0); e != unix.EINVAL {
		tb.Skipf("rseq(2): %v", e)
	}
	if has, _, e := unix.RawSyscall(unix.SYS_MEMBARRIER, queryMembarrier, 0, 0); e != 0 || has&membarrierExpeditedRseq == 0 {
		tb.Skipf("membarrier(2) knows %#x, which lacks PRIVATE_EXPEDITED_RSEQ: %v", has, e)
	}
	if err := Start(); err != nil {
		tb.Fatal(err)
	}
}

// needOwn skips the test where a C library registers the threads, as in race builds.
func needOwn(tb testing.TB) {
	tb.Helper()
	need(tb)
	if Offset != 0 {
		tb.Skip("a C library owns the threads")
	}
}

func TestStart(t *testing.T) {
	need(t)
	if err := Start(); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if err := Fence(); err != nil {
		t.Error(err)
	}
}

// The area that a thread gets is the one that the kernel keeps up to date.
func TestRegister(t *testing.T) {
	needOwn(t)
	cpu.Aside(func() {
		before := Failed()
		Register()
		word := fsWord()
		area := (*Area)(at(uintptr(word)))
		Register()
		if fsWord() != word || word == 0 || area == state.broken || Failed() != before {
			t.Fatalf("the word at FS is %#x, then %#x; %d threads failed", word, fsWord(), Failed()-before)
		}
		other := new([8]Area)
		for what, tc := range map[string]struct {
			area   unsafe.Pointer
			length uintptr
			sig    uint32
			want   unix.Errno
		}{
			"again":                {unsafe.Pointer(area), state.length, Sig, unix.EBUSY},
			"with another length":  {unsafe.Pointer(area), state.length + 32, Sig, unix.EINVAL},
			"with another sig":     {unsafe.Pointer(area), state.length, Sig + 1, unix.EPERM},
			"with another address": {unsafe.Pointer(other), state.length, Sig, unix.EINVAL},
		} {
			if e := sysRseq(tc.area, tc.length, tc.sig); e != tc.want {
				t.Errorf("rseq(2) %s: %v; want %v", what, e, tc.want)
			}
		}
		for _, n := range affinity(t) {
			var one unix.CPUSet
			one.Set(n)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Fatal(err)
			}
			if int(area.cpuID) != n || !area.registered() {
				t.Errorf("on CPU %d the area says %d", n, int32(area.cpuID))
			}
		}
	})
}

// affinity returns the CPUs that the thread may use.
func affinity(t *testing.T) (cpus []int) {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for n := range len(may) * 64 {
		if may.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	return cpus
}

// Areas of threads that have ended are used again and never unmapped: 1000
// threads, 10 at a time, have few. No two living threads ever have the same.
func TestAreasAreReused(t *testing.T) {
	needOwn(t)
	made := func() int {
		state.mu.Lock()
		defer state.mu.Unlock()
		return len(state.free) + len(state.used)
	}
	before := made()
	seen := make(map[uint64]bool)
	for range 100 {
		var words [10]uint64
		var ready, threads sync.WaitGroup
		ready.Add(len(words))
		for i := range words {
			threads.Go(func() {
				cpu.Aside(func() {
					Register()
					words[i] = fsWord()
					ready.Done()
					ready.Wait() // all of them live
				})
			})
		}
		threads.Wait()
		slices.Sort(words[:])
		for i, w := range words {
			seen[w] = true
			if i > 0 && words[i-1] == w {
				t.Fatalf("two threads have the area at %#x", w)
			}
			if o := w % pageSize; o < PageBegin || o+uint64(state.length) > PageEnd {
				t.Errorf("an area at page offset %d", o)
			}
			if err := unix.Mprotect(unsafe.Slice((*byte)(at(uintptr(w&^(pageSize-1)))), pageSize), unix.PROT_READ|unix.PROT_WRITE); err != nil {
				t.Errorf("the area at %#x is not mapped: %v", w, err)
			}
		}
	}
	if n := made() - before; n > 256 || len(seen) > 256 {
		t.Errorf("1000 threads, of which 10 live at a time, had %d areas, and %d were made for them", len(seen), n)
	}
}

// A thread that somebody else has registered keeps out of the way, and is counted once.
func TestFailed(t *testing.T) {
	needOwn(t)
	mine, err := unix.MmapPtr(-1, 0, nil, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON) // for good
	if err != nil {
		t.Fatal(err)
	}
	cpu.Aside(func() {
		if fsWord() != 0 {
			t.Skip("the thread is registered already")
		}
		if e := sysRseq(mine, areaLen, Sig); e != 0 {
			t.Fatal(e)
		}
		before := Failed()
		for range 3 {
			Register()
		}
		if n := Failed() - before; n != 1 {
			t.Errorf("one thread counts as %d", n)
		}
		if word := fsWord(); word != uint64(uintptr(unsafe.Pointer(state.broken))) || state.broken.registered() {
			t.Errorf("the word at FS is %#x; want that of an area without a CPU", word)
		}
	})
}

func TestSizes(t *testing.T) {
	for _, tc := range []struct{ features, align, length, stride uintptr }{
		{0, 0, 32, 64},   // before Linux 6.3
		{28, 32, 32, 64}, // Linux 6.3 to 6.18
		{32, 32, 32, 64},
		{33, 64, 33, 64},
		{64, 64, 64, 64},
		{65, 64, 65, 128},
		{40, 128, 40, 128},
		{300, 256, 300, 512},
		{513, 64, 0, 0},
		{32, 1024, 0, 0},
	} {
		length, stride, err := sizes(tc.features, tc.align)
		if length != tc.length || stride != tc.stride || (err == nil) != (tc.length > 0) {
			t.Errorf("sizes(%d, %d) = %d, %d, %v; want %d, %d", tc.features, tc.align, length, stride, err, tc.length, tc.stride)
		}
	}
}

// Its section begins at its entry, arms inside and ends where its loop ends;
// the signature stands before its abort address.
func TestSpinLayout(t *testing.T) {
	d := spinDescriptor()
	code := unsafe.Slice((*byte)(at(uintptr(d[1]))), d[2])
	if arm := []byte{0x48, 0x89, 0x46, 0x08}; !bytes.Contains(code, arm) { // movq %rax,8(%rsi)
		t.Errorf("section % x does not contain the arming store % x", code, arm)
	}
	if end := []byte{0xff, 0xc9, 0x75}; !bytes.HasSuffix(code[:len(code)-1], end) { // decl %ecx; jne
		t.Errorf("section % x does not end with % x", code, end)
	}
	if sig := *(*uint32)(at(uintptr(d[3]) - 4)); sig != Sig || d[0] != 0 || uintptr(unsafe.Pointer(d))%32 != 0 {
		t.Errorf("descriptor %#x at %p, %#x before its abort address", *d, d, sig)
	}
}

// A fence starts over a sequence that runs elsewhere, also when that waits for nothing.
func TestFence(t *testing.T) {
	needOwn(t)
	cpu.Aside(func() {
		Register()
		area := (*Area)(at(uintptr(fsWord())))
		for range 100 {
			if err := tryFence(area); err != nil {
				t.Fatal(err)
			}
		}
		begun, fenced := new(uint32), uint32(7) // without a fence it ends
		for range 100 {
			if spin(area, 7, begun, &fenced) {
				return
			}
		}
		t.Error("a sequence that nobody disturbs does not end")
	})
}

// image returns a shared object with two symbols as the kernel maps one, which is
// not in Go memory.
func image(t *testing.T, gnu, relocated bool) []byte {
	t.Helper()
	const dyn, sym, str, hash = 0x100, 0x200, 0x300, 0x400
	b, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	put := func(at int, v any) {
		if _, err := binary.Encode(b[at:], binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	copy(b, "\x7fELF")
	put(32, uint64(64))       // e_phoff
	put(54, [2]uint16{56, 2}) // e_phentsize, e_phnum
	put(64, uint32(1))        // PT_LOAD
	put(64+56, uint32(ptDynamic))
	put(64+56+16, uint64(dyn))
	base := uint64(0)
	if relocated {
		base = uint64(uintptr(unsafe.Pointer(&b[0])))
	}
	tag := uint64(dtHash)
	if gnu {
		tag = dtGNUHash
	}
	put(dyn, []uint64{14, 1, tag, base + hash, dtStrtab, base + str, dtSymtab, base + sym, 0, 0})
	copy(b[str:], "\x00first\x00second\x00absent\x00")
	put(sym+24, []uint32{1, 1 << 16}) // name, section
	put(sym+24+8, uint64(0x500))
	put(sym+48, []uint32{7, 1 << 16})
	put(sym+48+8, uint64(0x508))
	put(sym+72, []uint32{14, 0}) // not defined here
	if gnu {
		// 2 buckets, symbols from 1 on, 1 bloom word; chains end with an odd word.
		put(hash, []uint32{2, 1, 1, 0, 0, 0, 1, 3, 2, 5, 7})
	} else {
		put(hash, []uint32{1, 4})
	}
	return b
}

func TestLookup(t *testing.T) {
	for _, gnu := range []bool{false, true} {
		for _, relocated := range []bool{false, true} {
			b := image(t, gnu, relocated)
			base := uintptr(unsafe.Pointer(&b[0]))
			for name, want := range map[string]uintptr{"first": 0x500, "second": 0x508, "absent": 0, "firs": 0, "firstly": 0, "none": 0} {
				got := lookup(base, name)
				if want != 0 {
					want += base
				}
				if uintptr(got) != want {
					t.Errorf("gnu %v, relocated %v: lookup(%q) = %p; want %#x", gnu, relocated, name, got, want)
				}
			}
			b[0] = 0
			if got := lookup(base, "first"); got != nil {
				t.Errorf("lookup in what is no ELF image = %p", got)
			}
		}
	}
	// The vDSO is a real one, in every process.
	const atSysinfoEhdr = 33
	base := auxv(atSysinfoEhdr)
	if base == 0 {
		t.Skip("no vDSO")
	}
	if p := lookup(base, "__vdso_clock_gettime"); uintptr(p) <= base {
		t.Errorf("lookup of a symbol of the vDSO at %#x = %p", base, p)
	}
	if p := lookup(base, "__rseq_offset"); p != nil {
		t.Errorf("the vDSO has __rseq_offset at %p", p)
	}
}
