package pages

import (
	"fmt"
	"sync/atomic"
)

// failIn counts down to the allocation that fails. At 0, none fails.
var failIn atomic.Int64

// FailNth makes the n-th allocation from now on fail: of pages, of bits, or of
// memory for the tables. It reports whether the failure that was requested
// before has happened. FailNth(0) requests none. FailNth is for tests.
func FailNth(n int64) (failed bool) { return failIn.Swap(n) == 0 }

// mayAllocate returns the error that FailNth requested.
//
// Preconditions: heap.mu is held.
func mayAllocate() error {
	if failIn.Load() > 0 && failIn.Add(-1) == 0 {
		return fmt.Errorf("allocation made to fail: %w", ErrNoMemory)
	}
	return nil
}
