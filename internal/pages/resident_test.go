//go:build linux && !race

package pages

import (
	"os"
	"os/exec"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// residentPages returns how many pages of a range have memory behind them. If one page
// of a system page has, which may be a made-up one, all of its pages have.
func residentPages(t *testing.T, p unsafe.Pointer, n uintptr) (sum int64) {
	t.Helper()
	real := uintptr(os.Getpagesize())
	end := uintptr(p) + n
	from := uintptr(p) &^ (real - 1)
	in := make([]byte, (end-from+real-1)/real)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, from, end-from, uintptr(unsafe.Pointer(&in[0]))); e != 0 {
		t.Fatalf("mincore: %v", e)
	}
	last := ^uintptr(0)
	for i, b := range in {
		if at := (from + uintptr(i)*real) / uintptr(SystemPage()); b&1 != 0 && at != last {
			sum += 1 << systemOrder
			last = at
		}
	}
	return sum
}

// What Metadata and Mapped say is what the system says: tables take no more, pages exactly that.
func TestResident(t *testing.T) {
	const child = "SLABFS_TEST_RESIDENT"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestResident$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a child process: %v\n%s", err, out)
		}
		return
	}
	check := func(what string, perPage float64) {
		t.Helper()
		grown := uintptr(heap.grown)
		tables := residentPages(t, unsafe.Add(heap.owners, -4*int(grown)), 4*grown)
		for _, part := range heap.descs {
			tables += residentPages(t, part, grown/2*DescSize)
		}
		used := int64(heap.end.Load() - blockPages)
		// The first block, of which no page is used, has a page of owners at most.
		if got, want := tables<<Shift, Metadata()+int64(SystemPage()); got > want || want > got+got/8+bitsStep {
			t.Errorf("%s: the tables take %d bytes; Metadata says %d", what, got, want)
		}
		if systemOrder > 0 {
			perPage += 10 // the edges of tables, and blocks that share a system page of them
		}
		if got := float64(Metadata()) / float64(used); got > perPage {
			t.Errorf("%s: %.1f bytes of metadata for a page; want at most %v", what, got, perPage)
		}
		if got := residentPages(t, At(0), uintptr(heap.end.Load())<<Shift) << Shift; got != Mapped() {
			t.Errorf("%s: %d bytes have memory; Mapped says %d", what, got, Mapped())
		}
	}
	fill := func(order, n int) (blocks []Page) {
		for range n {
			p, err := Alloc(order, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range Page(1 << order) {
				*(*byte)(At(p + i)) = 1
				SetOwner(p+i, 1, 1)
			}
			*(*byte)(Desc(p)) = 1
			blocks = append(blocks, p)
		}
		return blocks
	}
	pairs := fill(1, 8<<10)
	check("order 1", 16.4)
	singles := fill(0, 48<<10)
	check("order 0 beside it", 26)
	free := func(blocks []Page, order int) {
		for _, p := range blocks {
			SetOwner(p, 1<<order, 0)
			*(*byte)(Desc(p)) = 0
			Free(p, order)
		}
	}
	free(singles[:len(singles)/2], 0)
	free(pairs[:len(pairs)/2], 1)
	Return(0)
	check("half of it given back", 26)
	free(singles[len(singles)/2:], 0)
	free(pairs[len(pairs)/2:], 1)
	Return(0)
	check("all given back", 26)
}
