//go:build !race

package alloc

import "sync/atomic"

// A counter has one writer at a time, whoever holds a lock, and readers that hold
// none. It is a plain word, of which a reader sees some whole value, since to
// add atomically a few times made a refill dearer by a tenth.
type counter struct{ n uint64 }

func (c *counter) add(n int) { c.n += uint64(n) }

func (c *counter) load() uint64 { return atomic.LoadUint64(&c.n) }

// A gauge is a counter that also goes down, and can be set.
type gauge struct{ n int64 }

func (g *gauge) Add(n int64) { g.n += n }

func (g *gauge) Store(n int64) { g.n = n }

func (g *gauge) Load() int64 { return atomic.LoadInt64(&g.n) }
