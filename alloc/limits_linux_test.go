//go:build !race

package alloc

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/proctest"
)

// Where the process locks all of its memory, and many CPUs are possible, an allocator locks
// what it uses, and gives it back.
func TestLockedProcess(t *testing.T) {
	fakeCPUs(t, 64)
	if !inChild(t, false) {
		return
	}
	if err := unix.Mlockall(unix.MCL_FUTURE); err != nil {
		t.Skipf("mlockall: %v; is there a limit, ulimit -l?", err)
	}
	before := proctest.Status(t, "VmRSS")
	a := newAllocator(t, Options{})
	if n := proctest.Status(t, "VmRSS") - before; n > 32<<20 {
		t.Errorf("New takes %d bytes", n)
	}
	c := newCache(t, a, "locked", 64, CacheOptions{})
	objs := touched(t, c, 1<<18)
	if got, mapped := residentBytes(t, objs), a.MemoryMapped(); got > mapped {
		t.Errorf("%d bytes are resident; MemoryMapped says %d", got, mapped)
	}
	for i, obj := range objs {
		if !stamped(bytesAt(obj, 64), uint64(i)) {
			t.Fatalf("object %d lost its content", i)
		}
	}
	freeAll(c, objs)
	c.SetMinPartial(0)
	c.Shrink()
	if got := residentBytes(t, objs); got != 0 || a.MemoryReturns() == 0 {
		t.Errorf("%d bytes are resident after a shrink, in %d calls", got, a.MemoryReturns())
	}
}

// Under RLIMIT_DATA, with many possible CPUs, only what is used counts: at the limit Alloc
// returns nil, and what is freed can be allocated again.
func TestDataLimit(t *testing.T) {
	fakeCPUs(t, 256)
	if !inChild(t, false) {
		return
	}
	const left, most = 96 << 20, 48 << 20 // the rest is for Go, for tables and for sheaves
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: uint64(proctest.Status(t, "VmData") + left), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	a := newAllocator(t, Options{})
	c := newCache(t, a, "limited", 4096, CacheOptions{})
	objs := make([]unsafe.Pointer, 0, left/4096)
	for len(objs) < cap(objs) {
		obj := c.Alloc()
		if obj == nil {
			break
		}
		stamp(bytesAt(obj, 4096), uint64(len(objs)))
		objs = append(objs, obj)
	}
	if n := len(objs) * 4096; n < most || len(objs) == cap(objs) {
		t.Errorf("%d bytes of objects with %d left under the limit; want %d at least, and nil at last", n, left, most)
	}
	for i, obj := range objs {
		if !stamped(bytesAt(obj, 4096), uint64(i)) {
			t.Fatalf("object %d lost its content", i)
		}
	}
	freeAll(c, objs)
	freeAll(c, allocN(t, c, len(objs)))
	checkRest(t, c, nil)
}
