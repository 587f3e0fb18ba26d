//go:build !linux || !amd64

package rseq

import "fmt"

// Start reports that sequences cannot be used here.
func Start() error { return fmt.Errorf("%w: they need Linux on amd64", ErrUnsupported) }

const never = "rseq: used though Start fails here"

// Fence is not called where Start fails.
func Fence() error { panic(never) }

// Register is not called where Start fails.
func Register() { panic(never) }

// CPU is not called where Start fails.
func CPU() int { panic(never) }

// Registered is not called where Start fails.
func Registered() bool { panic(never) }

// Failed returns how many threads could not register: none tries.
func Failed() uint64 { return 0 }
