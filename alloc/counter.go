//go:build !race && !386 && !arm && !mips && !mipsle

package alloc

import "sync/atomic"

// A counter has one writer at a time, the holder of a lock, and readers that
// hold none. A reader needs only a whole value, for a statistic or as a hint.
//
// The writer stores without an atomic operation. That is a data race, and the
// Go memory model bounds the effect of a race: a read of one word sees a value
// that some write stored there. It sees neither half of a value nor a value
// that was never stored ("Implementation Restrictions for Programs Containing
// Data Races"). So this file is for words of 64 bits. The lock orders the
// writers, so no addition is lost. A read orders nothing: earlier stores of the
// writer may not be visible yet.
//
// The model also allows an implementation to report a race and end the program.
// So with the race detector, and where a word has 32 bits, counter_atomic.go
// uses atomic operations.
//
// Atomic operations cost more. Compared with this, atomic.Add takes 4.7 times
// as long, and atomic.Store, an XCHG on amd64, 8.3 times (BenchmarkCounter,
// Xeon at 2.8 GHz, 2026-11-30). A function in assembly that stores by a MOVQ
// takes 1.1 times as long by itself. But it is not inlined, and BenchmarkDeep
// took 1.2 times as long.
type counter struct{ n uint64 }

func (c *counter) add(n int) { c.n += uint64(n) }

func (c *counter) load() uint64 { return atomic.LoadUint64(&c.n) }

// A gauge is a counter that can also go down and be set.
type gauge struct{ n int64 }

func (g *gauge) Add(n int64) { g.n += n }

func (g *gauge) Store(n int64) { g.n = n }

func (g *gauge) Load() int64 { return atomic.LoadInt64(&g.n) }
