//go:build !amd64 && !arm64

package lockdep

// goroutine returns a number that no other live goroutine has.
func goroutine() uintptr { return traced() }
