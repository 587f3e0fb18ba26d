package pages

import "time"

// Return gives memory of free pages back to the system until at most keep bytes
// of free pages have memory behind them. Largest blocks go first, and blocks smaller
// than a system page stay: others use the rest of it. It returns how many bytes it gave
// back. Pages keep their addresses; their content is lost.
func Return(keep int64) int64 { return giveBack(keep, Warm()-keep, 0) }

// ReturnIdle gives back memory that nobody has missed. If the call before was at least period
// ago, and more than above bytes were free all the time since, it gives back what was, until
// at most keep bytes are left. It takes whole huge pages only, so that none is split.
// It reports whether another call will find more, although nothing is freed meanwhile.
func ReturnIdle(period time.Duration, above, keep int64) (more bool) {
	heap.mu.Lock()
	idle, warm, early := heap.idle<<Shift, Warm(), time.Since(heap.idleSince) < period
	if !early {
		heap.idle, heap.idleSince = heap.warm.Load(), time.Now()
	}
	heap.mu.Unlock()
	if early {
		return warm > above
	}
	given := int64(0)
	if idle > above {
		given = giveBack(keep, idle-keep, hugeOrder)
	}
	return warm > idle && warm-given > above
}

// Returns tells how often memory was given back: calls of madvise that succeeded, or what
// stands in for them.
func Returns() uint64 { return heap.returns.Load() }

// giveBack gives back the memory of free blocks of 2^least pages and more until keep
// bytes are left or, since others free and allocate meanwhile, most bytes are given.
func giveBack(keep, most int64, least int) int64 {
	var given int64
	for order := MaxOrder; order >= max(least, systemOrder); order-- {
		for given < most && Warm() > keep {
			n := returnOne(order)
			if n < 0 {
				break
			}
			given += n
		}
	}
	return given
}

// returnOne gives back the memory of one warm block of that order, or returns
// -1 if there is none. The block is nobody's while the system works, without the lock.
func returnOne(order int) int64 {
	heap.mu.Lock()
	p := Page(0)
	for node := 0; p == 0 && node < nodes(); node++ {
		p = lists(node)[1][order]
	}
	if p == 0 {
		heap.mu.Unlock()
		return -1
	}
	warm := int64(countTouched(p, 1<<order))
	unlink(p)
	heap.mu.Unlock()

	err := discard(p, 1<<order)

	heap.mu.Lock()
	defer heap.mu.Unlock()
	if err == nil {
		heap.returns.Add(1)
		untouch(p, 1<<order)
	}
	freeBlockOf(p, order)
	heap.idle = min(heap.idle, heap.warm.Load())
	if err != nil {
		return -1 // the block is still warm: to try it again now would not end
	}
	return warm << Shift
}
