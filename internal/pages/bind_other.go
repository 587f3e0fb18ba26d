//go:build !linux || race

package pages

func bind(Page, int, int) error { return nil }
