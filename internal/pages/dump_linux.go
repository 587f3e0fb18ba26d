package pages

import "golang.org/x/sys/unix"

// dump puts memory into core dumps, or leaves it out. Where the system refuses, a dump
// has more in it than one wants, or less.
func dump(whole []byte, in bool) {
	advice := unix.MADV_DONTDUMP
	if in {
		advice = unix.MADV_DODUMP
	}
	_ = unix.Madvise(whole, advice)
}
