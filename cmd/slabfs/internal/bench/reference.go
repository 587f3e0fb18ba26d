package bench

// A reference is one CPU's sheaf and the words around it, in Go memory, on which assembly takes the steps
// of the fast paths of alloc, as they were when it was written: the same loads, comparisons and stores,
// one after the other where they are so there, and nothing that could abort. It does not change when they
// do, so that the guard can tell that they became slower, on any processor: what bounds them bounds it.
type reference struct {
	sheaf  *[512]uint64 // header, cap, floor, slots
	thread *uint64      // -, descriptor, CPU
	owner  *[8]uint32   // of the pages of objects
	arena  uintptr
	pages  uintptr
	number uint32
}

// newReference returns one with some objects in its sheaf. They are only addresses.
func newReference() *reference {
	page := new([1024]uint64) // of a page, as large ones do; header and thread lie apart there, as in alloc
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
