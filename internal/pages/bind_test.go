//go:build linux && !race

package pages

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Addresses of a node that the machine has prefer its memory; those of one that is made up are as any other.
func TestBind(t *testing.T) {
	if !onNodes(t, 2) {
		return
	}
	policy := func(addr unsafe.Pointer) (mode int32, mask [maxNode / 64]uint64) {
		if _, _, e := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), uintptr(unsafe.Pointer(&mask)), maxNode, uintptr(addr), unix.MPOL_F_ADDR, 0); e != 0 {
			t.Skipf("get_mempolicy: %v", e)
		}
		return mode, mask
	}
	p, err := Alloc(systemOrder, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Free(p, systemOrder)
	if err := bind(p, 1, 0); err != nil {
		t.Skipf("mbind: %v", err)
	}
	for _, at := range []Page{p, p | (growStep - 1)} {
		if mode, mask := policy(At(at)); mode != unix.MPOL_PREFERRED || mask != [maxNode / 64]uint64{1} {
			t.Errorf("policy of page %d is %d, nodes %x; want %d, node 0", at, mode, mask, unix.MPOL_PREFERRED)
		}
	}
	for _, id := range []int{63, 64, maxNode - 1, maxNode, 1 << 20} {
		if err := bind(p, 1, id); err == nil {
			t.Errorf("pages are bound to node %d, which is no machine's that runs this", id)
		}
	}
	q, err := Alloc(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer Free(q, 0)
	*(*byte)(At(q)) = 1
}
