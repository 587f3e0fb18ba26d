//go:build !linux || race

package pages

func adviseHuge(bool) error { return ErrNoHuge }
