package pages

import (
	"errors"
	"fmt"
)

// Huge is a setting for huge pages in the arena.
type Huge uint8

// The values of Huge.
const (
	HugeSystem Huge = iota // nothing: the system's own setting decides
	HugeAlways             // a huge page wherever one fits
	HugeNever              // none
)

// String returns h as parameters/huge_pages shows it.
func (h Huge) String() string { return [...]string{"system", "always", "never"}[h] }

// ErrNoHuge is wrapped by errors of SetHuge: this system, or this build, has no
// huge pages.
var ErrNoHuge = errors.New("no huge pages here")

// SetHuge asks the system for huge pages (HugeAlways) or for none (HugeNever)
// in the whole arena from now on. A setting can be replaced by the other one,
// but cannot be taken back: h is never HugeSystem. Its errors wrap ErrNoHuge
// where huge pages are not available.
func SetHuge(h Huge) error {
	if h == HugeAlways {
		if err := noHuge(); err != nil {
			return fmt.Errorf("set huge pages to %v: %w", h, err)
		}
	}
	heap.mu.Lock()
	defer heap.mu.Unlock()
	if err := adviseHuge(h == HugeAlways); err != nil {
		return fmt.Errorf("set huge pages to %v: %w", h, err)
	}
	heap.huge = h
	return nil
}

// HugePages returns the setting in effect: what SetHuge has asked for last. It
// returns HugeNever instead of HugeAlways if the system, or the process, does
// not allow huge pages any more.
func HugePages() Huge {
	heap.mu.Lock()
	h := heap.huge
	heap.mu.Unlock()
	if h == HugeAlways && noHuge() != nil {
		return HugeNever
	}
	return h
}
