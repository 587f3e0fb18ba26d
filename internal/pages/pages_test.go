package pages

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
	"unsafe"

	"slabfs/internal/cpu"
)

// pageSizeEnv is the size of the system's page in bytes, instead of the system's.
const pageSizeEnv = "SLABFS_TEST_PAGE_SIZE"

// beforeReserve is what a child process does first.
var beforeReserve = func() {}

func TestMain(m *testing.M) {
	beforeReserve()
	if n, _ := strconv.Atoi(os.Getenv(pageSizeEnv)); n > 0 {
		FakeSystemPage(n)
	}
	if n, _ := strconv.Atoi(os.Getenv(nodesEnv)); n > 0 {
		var nodes []cpu.Node
		var possible cpu.Mask
		for i := range n {
			nodes = append(nodes, cpu.Node{ID: i, CPUs: cpu.MaskOf(i)})
			possible.Set(i)
		}
		cpu.FakePossible(possible)
		cpu.FakeNodes(nodes)
	}
	if err := Reserve(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// bytesOf returns the memory of n pages.
func bytesOf(p Page, n int) []byte { return unsafe.Slice((*byte)(At(p)), n<<Shift) }

func TestAllocAlignment(t *testing.T) {
	for order := 0; order <= MaxOrder; order++ {
		p, err := Alloc(order, 0)
		if err != nil {
			t.Fatalf("Alloc(%d): %v", order, err)
		}
		if p == 0 || p%(1<<order) != 0 {
			t.Errorf("Alloc(%d) = page %d; want a multiple of %d", order, p, 1<<order)
		}
		if a := uintptr(At(p)); order == 9 && a%arenaAlign != 0 {
			t.Errorf("Alloc(9, 0) = address %#x; want 2 MiB aligned", a)
		}
		b := bytesOf(p, 1<<order)
		b[0], b[len(b)-1] = 1, 2
		if q, ok := Of(unsafe.Pointer(&b[len(b)-1])); !ok || q != p+1<<order-1 {
			t.Errorf("Of(last byte of page %d, order %d) = %d, %v", p, order, q, ok)
		}
		Free(p, order)
	}
}

func TestOfForeign(t *testing.T) {
	var local int
	for _, p := range []unsafe.Pointer{nil, unsafe.Pointer(&local), unsafe.Add(heap.base, uintptr(heap.limit)<<Shift), unsafe.Add(heap.base, -1)} {
		if page, ok := Of(p); ok {
			t.Errorf("Of(%p) = page %d; want none: it is not in the arena", p, page)
		}
	}
}

// Every page that Of finds has an owner, also before the first allocation.
func TestFirstBlock(t *testing.T) {
	for p := range Page(blockPages) {
		if q, ok := Of(At(p)); !ok || q != p || Owner(p) != 0 {
			t.Fatalf("Of(At(%d)) = %d, %v, of owner %d; want %d, true, 0", p, q, ok, Owner(p), p)
		}
	}
}

func TestRunLimits(t *testing.T) {
	for _, n := range []int{0, -1, int(heap.limit) + 1, math.MaxInt} {
		if p, err := AllocRun(n, 0); !errors.Is(err, ErrNoMemory) {
			t.Errorf("AllocRun(%d) = %d, %v; want ErrNoMemory", n, p, err)
		}
	}
}

// checkHeap walks the free lists and compares them with the counters.
func checkHeap(t *testing.T) (freePages int64) {
	t.Helper()
	heap.mu.Lock()
	defer heap.mu.Unlock()
	var warm int64
	for node := range nodes() {
		for kind := range lists(node) {
			for order, p := range lists(node)[kind] {
				for prev := Page(0); p != 0; prev, p = p, block(p).next {
					b := block(p)
					n := countTouched(p, 1<<order)
					if b.tag != tagFree || int(b.order) != order || b.prev != prev || b.warm != (kind == 1) || b.warm != (n > 0) || Node(p) != node {
						t.Fatalf("free block %d on list %d of order %d of node %d is %+v, %d pages touched, of node %d", p, kind, order, node, *b, n, Node(p))
					}
					warm += int64(n)
					freePages += 1 << order
				}
			}
		}
	}
	odds := 0
	for at, odd := range heap.odd {
		for p := Page(at*blockPages + 1); !odd && p < Page(at+1)*blockPages; p += 2 {
			if *(*[DescSize]byte)(Desc(p)) != [DescSize]byte{} {
				t.Fatalf("the descriptor of page %d is in use and not counted", p)
			}
		}
		if odd {
			odds++
		}
	}
	if odds != heap.odds {
		t.Fatalf("odd pages of %d blocks counted, %d found", heap.odds, odds)
	}
	for p := Page(0); p < heap.grown; p += 1 << systemOrder {
		if n := countTouched(p, 1<<systemOrder); n%(1<<systemOrder) != 0 {
			t.Fatalf("%d pages of %d in the system page at %d are touched; want all or none", n, 1<<systemOrder, p)
		}
	}
	if got := heap.warm.Load(); got != warm {
		t.Fatalf("%d warm pages counted, %d found", got, warm)
	}
	if got, want := heap.mapped.Load(), int64(countTouched(0, len(heap.touched)*64)); got != want {
		t.Fatalf("%d mapped pages counted, %d found", got, want)
	}
	return freePages
}

// run is a program of allocations and frees whose oracle is a stamp in each page.
func runProgram(t *testing.T, prog []byte) {
	type held struct {
		p     Page
		n     int
		order int // -1: of AllocRun
		stamp byte
	}
	var live []held
	check := func(h held) {
		for i := range h.n {
			if got := bytesOf(h.p+Page(i), 1)[7]; got != h.stamp {
				t.Fatalf("page %d+%d of a run of %d: stamp %d; want %d", h.p, i, h.n, got, h.stamp)
			}
		}
	}
	release := func(i int) {
		h := live[i]
		check(h)
		if h.order >= 0 {
			Free(h.p, h.order)
		} else {
			FreeRun(h.p, h.n)
		}
		live[i] = live[len(live)-1]
		live = live[:len(live)-1]
	}
	before := checkHeap(t)
	end := heap.end.Load()
	for pc, op := range prog {
		h := held{stamp: byte(pc), order: -1}
		node := pc % nodes()
		var err error
		switch arg := int(op >> 2); {
		case op&3 == 0:
			h.order = arg % (MaxOrder + 1)
			h.n = 1 << h.order
			h.p, err = Alloc(h.order, node)
		case op&3 == 1:
			h.n = 1 + arg*arg
			h.p, err = AllocRun(h.n, node)
		case op&3 == 2 && len(live) > 0:
			release(arg % len(live))
			continue
		default:
			Return(int64(arg) << 16)
			continue
		}
		if full := GoMemory && nodes() > 1; full && errors.Is(err, ErrNoMemory) {
			continue
		} else if err != nil || Node(h.p) != node && !full {
			t.Fatalf("op %d: page %d of node %d, %v; want node %d", pc, h.p, Node(h.p), err, node)
		}
		for i := range h.n {
			bytesOf(h.p+Page(i), 1)[7] = h.stamp
		}
		live = append(live, h)
	}
	for len(live) > 0 {
		release(len(live) - 1)
	}
	if after := checkHeap(t) - int64(heap.end.Load()-end); after != before {
		t.Fatalf("%d free pages before, %d after", before, after)
	}
}

func TestPrograms(t *testing.T) { randomPrograms(t, 100) }

func randomPrograms(t *testing.T, n int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range n {
		prog := make([]byte, 60)
		for i := range prog {
			prog[i] = byte(r.Uint32())
		}
		runProgram(t, prog)
	}
}

func FuzzHeap(f *testing.F) {
	f.Add([]byte{0, 4, 40, 2, 2, 2, 3})
	f.Add([]byte{1, 0xfd, 0xfd, 2, 6, 3, 0xfd, 2})
	f.Fuzz(func(t *testing.T, prog []byte) { runProgram(t, prog[:min(len(prog), 200)]) })
}

func TestReturn(t *testing.T) {
	p, err := AllocRun(3000, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := bytesOf(p, 3000)
	for i := 0; i < len(b); i += Size {
		b[i] = 1
	}
	mapped := Mapped()
	FreeRun(p, 3000)
	if Mapped() != mapped || Warm() < 3000<<Shift {
		t.Errorf("after FreeRun: %d mapped, %d warm; want %d and at least %d", Mapped(), Warm(), mapped, 3000<<Shift)
	}
	warm := Warm()
	if n := Return(0); n != warm || Warm() != 0 || Mapped() != mapped-n {
		t.Errorf("Return(0) = %d; %d warm and %d mapped are left; want %d, 0 and %d", n, Warm(), Mapped(), warm, mapped-warm)
	}
	if b[0] != 0 {
		t.Errorf("a page kept its content through Return")
	}
	if n := Return(0); n != 0 {
		t.Errorf("second Return(0) = %d; want 0", n)
	}
	checkHeap(t)
}

// What was free for a whole period goes, in whole huge pages, and nothing else.
func TestReturnIdle(t *testing.T) {
	const above, keep, run = 8 << 20, 2 << 20, 32 << 20 >> Shift
	use := func() {
		p, err := AllocRun(run, 0)
		if err != nil {
			t.Fatal(err)
		}
		FreeRun(p, run)
	}
	use()
	Return(0)
	ReturnIdle(0, above, keep)
	use()
	before, warm := Returns(), Warm()
	for range 10 { // free at the end of each period, but used in it
		if !ReturnIdle(0, above, keep) || Warm() != warm || Returns() != before {
			t.Fatalf("memory was given back that is in use again and again: %d bytes free of %d, %d calls", Warm(), warm, Returns()-before)
		}
		use()
	}
	ReturnIdle(0, above, keep)
	for range 10 { // too early
		if !ReturnIdle(time.Hour, above, keep) || Warm() != warm {
			t.Fatalf("%d bytes free of %d: some were given back before the period ended", Warm(), warm)
		}
	}
	if ReturnIdle(0, above, keep) || Warm() > keep {
		t.Errorf("after a period without use %d bytes are free; want %d at most, and no more to be found", Warm(), keep)
	}
	if calls := Returns() - before; calls == 0 || calls > run/hugePages {
		t.Errorf("%d calls gave %d bytes back; want one for each huge page at most", calls, warm-Warm())
	}
	Return(0)
}

// Where no whole huge page is free, the memory stays until Return is called.
func TestReturnIdleSplitsNothing(t *testing.T) {
	const n = 8 * blockPages
	p, err := AllocRun(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	Return(0)
	for q := p; q < p+n; q += hugePages {
		FreeRun(q+1, hugePages-1)
	}
	before, warm := Returns(), Warm()
	for range 3 {
		if ReturnIdle(0, 0, 0); Warm() != warm || Returns() != before {
			t.Fatalf("%d bytes free of %d after %d calls: huge pages were split", Warm(), warm, Returns()-before)
		}
	}
	left := int64(n / hugePages * (SystemPage() - Size)) // beside the pages in use
	if given := Return(0); given != warm-left || Warm() != left {
		t.Errorf("Return(0) = %d, %d are left; want %d and %d", given, Warm(), warm-left, left)
	}
	checkHeap(t)
	for q := p; q < p+n; q += hugePages {
		FreeRun(q, 1)
	}
	Return(0)
}

// While others free as much as it gives back, Return ends.
func TestReturnEnds(t *testing.T) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if p, err := AllocRun(64, 0); err == nil {
					FreeRun(p, 64)
				}
			}
		})
	}
	for range 200 {
		Return(0)
	}
	close(stop)
	wg.Wait()
	checkHeap(t)
}

func TestSetHuge(t *testing.T) {
	if GoMemory || runtime.GOOS != "linux" {
		if err := SetHuge(HugeAlways); !errors.Is(err, ErrNoHuge) || HugePages() != HugeSystem {
			t.Errorf("SetHuge = %v, and it is %v; want %v, %v", err, HugePages(), ErrNoHuge, HugeSystem)
		}
		return
	}
	defer func() { heap.huge = HugeSystem }()
	Return(0)
	if err := SetHuge(HugeAlways); errors.Is(err, ErrNoHuge) {
		t.Skip(err)
	} else if err != nil || HugePages() != HugeAlways {
		t.Fatalf("SetHuge(%v): %v; it is %v", HugeAlways, err, HugePages())
	}
	for _, n := range []int{1, hugePages - 1, hugePages + 1, blockPages + 1, 3 * hugePages} {
		Return(0)
		mapped := Mapped()
		p, err := AllocRun(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, most := (Mapped()-mapped)>>Shift, (n+hugePages-1)&^(hugePages-1)
		if got < int64(n) || got > int64(most) {
			t.Errorf("%d pages in use: %d have memory; want %d at most", n, got, most)
		}
		FreeRun(p, n)
		checkHeap(t)
	}
	randomPrograms(t, 20)
	if err := SetHuge(HugeNever); err != nil || HugePages() != HugeNever {
		t.Errorf("SetHuge(%v): %v; it is %v", HugeNever, err, HugePages())
	}
	randomPrograms(t, 20)
	Return(0)
}

func TestBits(t *testing.T) {
	a, err := AllocBits(8)
	if err != nil {
		t.Fatal(err)
	}
	b, err := AllocBits(8)
	if err != nil || a == b || a == 0 || b == 0 {
		t.Fatalf("places %d and %d, %v; want two", a, b, err)
	}
	for i := range Bits(a, 8) {
		Bits(a, 8)[i] = 1
		Bits(b, 8)[i] = 2
	}
	for i, w := range Bits(a, 8) {
		if w != 1 {
			t.Errorf("word %d = %d; want 1: bitmaps overlap", i, w)
		}
	}
	FreeBits(a, 8)
	if again, err := AllocBits(8); again != a || err != nil {
		t.Errorf("AllocBits(8) = %d, %v; want the freed place %d", again, err, a)
	}
	FreeBits(a, 8)
	FreeBits(b, 8)
}

func TestOwners(t *testing.T) {
	p, err := Alloc(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	SetOwner(p, 4, 77)
	for i := range Page(4) {
		if got := Owner(p + i); got != 77 {
			t.Errorf("Owner(page %d of 4) = %d; want 77", i, got)
		}
	}
	SetOwner(p, 4, 0)
	Free(p, 2)
}

// Several goroutines hold runs at once; each finds only its own stamps.
func TestParallel(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 300 {
				n := 1 + r.IntN(20)
				p, err := AllocRun(n, 0)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range n {
					bytesOf(p+Page(i), 1)[0] = byte(g)
				}
				if r.IntN(8) == 0 {
					Return(1 << 16)
				}
				for i := range n {
					if got := bytesOf(p+Page(i), 1)[0]; got != byte(g) {
						t.Errorf("page %d holds stamp %d; want %d", p+Page(i), got, g)
					}
				}
				FreeRun(p, n)
			}
		})
	}
	wg.Wait()
	checkHeap(t)
}

func BenchmarkAllocFree(b *testing.B) {
	for b.Loop() {
		p, err := Alloc(0, 0)
		if err != nil {
			b.Fatal(err)
		}
		Free(p, 0)
	}
}

// What a fast path makes of Table is what Of and Owner say, for every address there is.
func TestTable(t *testing.T) {
	if GoMemory {
		t.Skip("the arena is Go memory, which has no table")
	}
	base, end := uint64(uintptr(heap.base)), uint64(heap.end.Load())<<Shift
	for _, at := range []uint64{
		0, base, base + end, uint64(uintptr(heap.owners)), uint64(uintptr(heap.descs[0])), uint64(uintptr(heap.descs[1])),
		base + uint64(heap.limit)<<Shift, 1 << 47, 1 << 63, base + 1<<63, base - 1<<63, base + end + 1<<63, base + 1<<52, base + 1<<51, 0xffff800000000000, -base,
	} {
		for _, near := range []int64{0, 1, Size - 1, Size, Size + 1, -1, -Size, -Size - 1} {
			addr := uint64(uintptr(at + uint64(near)))
			n := uint64(int64(Table.Last-addr) >> Shift)
			want, ok := Of(unsafe.Add(unsafe.Pointer(nil), uintptr(addr)))
			if has := n >= Table.End; has != ok {
				t.Errorf("address %#x: has an owner in the table: %v; Of says %v", addr, has, ok)
				continue
			}
			if at := (*uint32)(unsafe.Add(unsafe.Pointer(nil), uintptr(Table.Last+1+4*n))); ok && at != owner(want) {
				t.Errorf("address %#x: the table has its owner at %p; want %p", addr, at, owner(want))
			}
		}
	}
}
