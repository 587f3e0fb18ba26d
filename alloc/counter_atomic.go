//go:build race || 386 || arm || mips || mipsle

package alloc

import "sync/atomic"

// A counter is the counter of counter.go with atomic operations.
type counter struct{ n atomic.Uint64 }

func (c *counter) add(n int) { c.n.Add(uint64(n)) }

func (c *counter) load() uint64 { return c.n.Load() }

// A gauge is the gauge of counter.go with atomic operations.
type gauge struct{ n atomic.Int64 }

func (g *gauge) Add(n int64) { g.n.Add(n) }

func (g *gauge) Store(n int64) { g.n.Store(n) }

func (g *gauge) Load() int64 { return g.n.Load() }
