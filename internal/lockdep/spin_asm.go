//go:build amd64 && !race

package lockdep

// unlock releases s once all is seen that was written before. To the compiler it is
// a call that may read and write all memory, so nothing moves across it.
//
// //go:noescape is true: it keeps nothing.
//
//go:noescape
func unlock(s *Spin)

// pause lets the other thread of the core run for a while.
func pause()
