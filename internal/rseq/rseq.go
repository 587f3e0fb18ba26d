package rseq

import "errors"

// Where areas lie, and what marks an abort address.
const (
	// PageBegin and PageEnd bound the offsets at which areas lie in their pages.
	// Headers of sheaves never lie there: where both had the same offset, a
	// process could run at a third of its speed for life.
	PageBegin = 2048
	PageEnd   = 2560

	// Sig stands in the four bytes before each abort address. It is the one that
	// glibc registers; a second one in a process is refused by the kernel.
	Sig = 0x53053053
)

// ErrUnsupported is wrapped by errors of Start: sequences cannot be used in this
// process, for the reason that the error gives.
var ErrUnsupported = errors.New("restartable sequences are not available")
