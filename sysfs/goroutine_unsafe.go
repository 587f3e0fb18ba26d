package sysfs

import _ "unsafe" // for linkname

// goroutine is lockdep's number of the running goroutine.
//
//go:linkname goroutine slabfs/internal/lockdep.goroutine
func goroutine() uintptr
