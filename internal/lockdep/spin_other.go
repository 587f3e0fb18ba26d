//go:build !amd64 && !race

package lockdep

import "sync/atomic"

// unlock releases s once all is seen that was written before.
func unlock(s *Spin) {
	if special.Load() {
		unlockSpecial(s)
		return
	}
	atomic.StoreUint32(&s.held, 0)
}

func pause() {}
