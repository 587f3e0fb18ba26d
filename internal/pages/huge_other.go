//go:build !linux || race

package pages

func noHuge() error { return ErrNoHuge }

func adviseHuge(bool) error { return ErrNoHuge }
