//go:build !linux || !amd64

package rseq

import "fmt"

// Start returns an error that wraps ErrUnsupported: sequences need Linux on
// amd64.
func Start() error { return fmt.Errorf("%w: they need Linux on amd64", ErrUnsupported) }

const never = "rseq: used though Start fails here"

// Fence must not be called: Start fails here.
func Fence() error { panic(never) }

// Register must not be called: Start fails here.
func Register() { panic(never) }

// CPU must not be called: Start fails here.
func CPU() int { panic(never) }

// Registered must not be called: Start fails here.
func Registered() bool { panic(never) }

// Failed returns 0: no thread tries to register.
func Failed() uint64 { return 0 }
