package bench

// A reference is one CPU's sheaf and the words around it, in Go memory.
// Assembly takes the steps of alloc's fast paths on it, as they were when the
// reference was written: the same loads, comparisons and stores, with the same
// dependencies, but without aborts. The reference does not change when the fast
// paths do, so the guard can tell when they become slower. What limits the fast
// paths on a processor limits the reference too.
type reference struct {
	sheaf  *[512]uint64 // header, cap, floor, slots
	thread *uint64      // -, descriptor, CPU
	owner  *[8]uint32   // which cache owns each page of objects
	arena  uintptr
	pages  uintptr
	number uint32
}

// newReference returns a reference with some objects in its sheaf. The objects
// are only addresses.
func newReference() *reference {
	page := new([1024]uint64) // fills a page, and so is aligned to one; header and thread lie apart, as in alloc
	r := &reference{sheaf: (*[512]uint64)(page[:]), thread: &page[256], owner: new([8]uint32), arena: 1 << 30, pages: 8, number: 7}
	r.sheaf[0], r.sheaf[1], r.sheaf[2] = 8, 16, 0
	for i := range 8 {
		r.sheaf[3+i] = uint64(r.arena) + uint64(i)*64
		r.owner[i] = r.number
	}
	return r
}

func (r *reference) Alloc() uintptr   { return referenceAlloc(r) }
func (r *reference) Free(obj uintptr) { referenceFree(r, obj) }

func (r *reference) pairs(n int) {
	for range n {
		r.Free(r.Alloc())
	}
}
