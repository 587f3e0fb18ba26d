package rseq

import "errors"

// The place of areas in their pages, and the mark of an abort address.
const (
	// PageBegin and PageEnd bound the offsets of areas in their pages.
	// Headers of sheaves never have such an offset. If both had the same
	// offset, the process could run at a third of its speed until it ends.
	PageBegin = 2048
	PageEnd   = 2560

	// Sig is the four bytes before each abort address. It is the signature
	// that glibc registers. The kernel refuses a second one in a process.
	Sig = 0x53053053
)

// ErrUnsupported is wrapped by errors of Start: sequences cannot be used in
// this process. The error says why.
var ErrUnsupported = errors.New("restartable sequences are not available")
