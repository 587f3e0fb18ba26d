//go:build race

package lockdep

// A Spin is a Mutex here.
type Spin struct{ Mutex }
