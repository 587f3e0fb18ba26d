//go:build !amd64 && !race

package lockdep

// unlock releases s after all earlier writes are visible.
func unlock(s *Spin) {
	if Special.Load() {
		unlockSpecial(s)
		return
	}
	s.word.And(^uint64(hungry - 1))
}

func pause() {}
