//go:build amd64 && !race

package lockdep

// unlock releases s after all earlier writes are visible. To the compiler it is
// a call that may read and write all memory, so the compiler moves nothing
// across it.
//
// //go:noescape is correct: unlock keeps no pointer.
//
//go:noescape
func unlock(s *Spin)

// pause lets the other hardware thread of the core run for a while.
func pause()
