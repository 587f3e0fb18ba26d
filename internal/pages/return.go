package pages

// Return gives memory of free pages back to the system until at most keep bytes
// of free pages have memory behind them. Largest blocks go first. It returns how
// many bytes it gave back. Pages keep their addresses; their content is lost.
func Return(keep int64) int64 {
	var given int64
	for order := MaxOrder; order >= 0; order-- {
		for Warm() > keep {
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
	p := heap.free[1][order]
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
		untouch(p, 1<<order)
	}
	freeBlockOf(p, order)
	if err != nil {
		return -1 // the block is still warm: to try it again now would not end
	}
	return warm << Shift
}
