package main

// #include "count.h"
import "C"

// counting returns an allocator that counts, for tests, because tests cannot use cgo.
func counting() *library {
	l := new(library)
	C.peer_counting(&l.peer)
	return l
}

// seen returns how many objects the allocator allocated and freed since
// counting, and their smallest and largest size.
func seen() (mallocs, frees, smallest, largest int) {
	s := C.peer_seen()
	return int(s.mallocs), int(s.frees), int(s.smallest), int(s.largest)
}
