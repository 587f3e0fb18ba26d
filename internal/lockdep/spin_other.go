//go:build !amd64 && !race

package lockdep

// unlock releases s once all is seen that was written before.
func unlock(s *Spin) {
	if Special.Load() {
		unlockSpecial(s)
		return
	}
	s.word.And(^uint64(hungry - 1))
}

func pause() {}
