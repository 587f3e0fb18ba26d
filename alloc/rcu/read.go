package rcu

import (
	"sync/atomic"

	"slabfs/internal/cpu"
	"slabfs/internal/fault"
	"slabfs/internal/invariants"
	"slabfs/internal/rseq"
)

// A Token is what ReadLock returns. It must be passed to ReadUnlock exactly
// once. The zero value belongs to no section.
type Token struct {
	holder holder
	phase  uint64
}

// ReadLock begins a read-side section. What a reader finds in the section is
// not freed before the section ends, if the goroutine that frees it waits for a
// grace period first. Sections may nest, last for long, block, and end on
// another thread, CPU or goroutine than the one where they began. On the rseq
// engine ReadLock is one call, without a lock or an atomic instruction
// (BenchmarkSection). It panics on a closed domain.
func (d *Domain) ReadLock() Token {
	t := Token{phase: readLock(d)}
	if invariants.Enabled {
		t.holder = d.held.enter()
	}
	return t
}

// ReadUnlock ends the section whose ReadLock returned t. It does not wait. If a
// grace period waits for the section, ReadUnlock takes the domain's lock for a
// moment; that lock is a leaf.
//
// A token must not be used twice, because that removes another reader's
// protection: a later grace period may then end too early. It panics if it
// notices.
func (d *Domain) ReadUnlock(t Token) {
	if invariants.Enabled {
		d.held.leave(t.holder)
	}
	readUnlock(d, t.phase)
}

// readLockSlow counts by atomics. It is used on the lock engine, on a thread
// that is not registered, on a CPU that is not open, and after a sequence was
// started over.
func readLockSlow(d *Domain) (token uint64) {
	n := cpu.Current(len(d.slow))
	c := &d.slow[n].counters
	for {
		token = d.phase.Load()
		if token == 0 {
			panic("rcu: read lock of a closed domain")
		}
		stall()
		c[token/8].Add(1)
		if d.phase.Load() == token || fault.RCUNoLookBack {
			break
		}
		// The phase may have ended before this reader was counted in
		// it.
		d.count(c, token)
	}
	if len(d.open) > 0 {
		rseq.Register()
		d.openCPU(n)
	}
	return token
}

// readUnlockSlow is readUnlock by atomics.
func readUnlockSlow(d *Domain, token uint64) {
	if token == 0 {
		panic("rcu: read unlock of a section that did not begin (the token is zero)")
	}
	d.count(&d.slow[cpu.Current(len(d.slow))].counters, token)
}

// count counts the end of a section.
func (d *Domain) count(c *[5]atomic.Uint64, token uint64) {
	c[(token+toUnlocks)/8].Add(1)
	if d.draining.Load() == token {
		readUnlockWake(d, token)
	}
}

// readUnlockWake wakes the grace period that may have waited for this reader.
// It has the arguments of readUnlock, which jumps here.
func readUnlockWake(d *Domain, _ uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left.Broadcast()
}
