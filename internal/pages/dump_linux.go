package pages

import "golang.org/x/sys/unix"

// dump includes memory in core dumps, or leaves it out. If the system refuses,
// core dumps are larger or smaller than wanted, and nothing else changes.
func dump(whole []byte, in bool) {
	advice := unix.MADV_DONTDUMP
	if in {
		advice = unix.MADV_DODUMP
	}
	_ = unix.Madvise(whole, advice)
}
