package pages

import "time"

// Return gives memory of free pages back to the system until at most keep bytes
// of free pages have memory behind them. It begins with the largest blocks.
// Blocks smaller than a system page stay, because the rest of their system page
// is in use. Return returns how many bytes it gave back. The pages keep their
// addresses and lose their content.
func Return(keep int64) int64 { return giveBack(keep, Warm()-keep, 0) }

// ReturnIdle gives back memory that was not needed for a while. It works only
// if the last call that worked was at least period ago. If more than above
// bytes were free all the time since then, it gives those bytes back until at
// most keep bytes are left. It gives back whole huge pages only, so that no
// huge page is split. It reports whether a later call will find more to give
// back, even if nothing is freed until then.
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

// Returns returns how often memory was given back: the number of successful
// calls of madvise, or of what stands in for madvise.
func Returns() uint64 { return heap.returns.Load() }

// giveBack gives back the memory of free blocks of at least 2^least pages. It
// stops when only keep bytes are left. It never gives back more than the number
// of bytes in most, because other goroutines free and allocate at the same
// time.
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

// returnOne gives back the memory of one warm block of that order. It returns
// the number of bytes, or -1 if there is no such block. While the system works,
// without the lock, the block is on no list.
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
		return -1 // the block is still warm: trying it again now would never end
	}
	return warm << Shift
}
