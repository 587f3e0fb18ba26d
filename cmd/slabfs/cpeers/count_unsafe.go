package main

// #include "count.h"
import "C"

// counting returns an allocator that counts, for tests, which cannot be written in C.
func counting() *library {
	l := new(library)
	C.peer_counting(&l.peer)
	return l
}

// seen returns how many objects it allocated and freed since, and of which sizes.
func seen() (mallocs, frees, smallest, largest int) {
	s := C.peer_seen()
	return int(s.mallocs), int(s.frees), int(s.smallest), int(s.largest)
}
