//go:build race

package alloc

import "sync/atomic"

// A counter is what counter.go says, in a way that the race detector understands.
type counter struct{ n atomic.Uint64 }

func (c *counter) add(n int) { c.n.Add(uint64(n)) }

func (c *counter) load() uint64 { return c.n.Load() }
