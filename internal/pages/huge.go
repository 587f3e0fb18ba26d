package pages

import (
	"errors"
	"fmt"
)

// Huge is what the system is asked for about huge pages, for the arena.
type Huge uint8

// What can be asked.
const (
	HugeSystem Huge = iota // nothing: the system's own setting decides
	HugeAlways             // a huge page wherever one fits
	HugeNever              // none
)

// String returns h as parameters/huge_pages shows it.
func (h Huge) String() string { return [...]string{"system", "always", "never"}[h] }

// ErrNoHuge is wrapped by errors of SetHuge: this system, or this build, has no huge pages to give.
var ErrNoHuge = errors.New("no huge pages here")

// SetHuge asks for huge pages, or for none, in the whole arena from now on. What was asked for
// once cannot be taken back, only turned round: h is not HugeSystem.
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

// HugePages returns what holds: what SetHuge has asked for last, but HugeNever if that is
// HugeAlways and the system, or the process, does not allow huge pages any more.
func HugePages() Huge {
	heap.mu.Lock()
	h := heap.huge
	heap.mu.Unlock()
	if h == HugeAlways && noHuge() != nil {
		return HugeNever
	}
	return h
}
