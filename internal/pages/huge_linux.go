//go:build !race

package pages

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// thp is the directory where the system says which huge pages it gives. Tests
// use another directory.
var thp = "/sys/kernel/mm/transparent_hugepage/"

// noHuge returns why advised memory gets no huge pages now, or nil if it gets
// them. The advice itself succeeds even where it has no effect.
func noHuge() error {
	// Linux 6.18 adds a second bit to the answer. It is for memory without
	// advice only.
	if off, err := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0); err == nil && off == 1 {
		return fmt.Errorf("the process has switched them off, prctl(PR_SET_THP_DISABLE): %w", ErrNoHuge)
	}
	if text, err := os.ReadFile(thp + "hpage_pmd_size"); err == nil && strings.TrimSpace(string(text)) != strconv.Itoa(arenaAlign) {
		return fmt.Errorf("they have %s bytes, not %d: %w", strings.TrimSpace(string(text)), arenaAlign, ErrNoHuge)
	}
	// Since Linux 6.8 each size has a file. That file decides unless it
	// says inherit.
	for _, file := range []string{fmt.Sprintf("hugepages-%dkB/enabled", arenaAlign>>10), "enabled"} {
		text, err := os.ReadFile(thp + file)
		switch {
		case err != nil || strings.Contains(string(text), "[inherit]"):
			continue
		case strings.Contains(string(text), "[never]"):
			return fmt.Errorf("%s is never: %w", thp+file, ErrNoHuge)
		}
		return nil
	}
	return nil
}

// adviseHuge advises the system about all of the arena's addresses, also those
// that are not used yet.
//
// Preconditions: heap.mu is held.
func adviseHuge(want bool) error {
	advice := unix.MADV_NOHUGEPAGE
	if want {
		advice = unix.MADV_HUGEPAGE
	}
	whole, err := asSystem(heap.base, uintptr(heap.limit)<<Shift)
	if err != nil {
		return err
	}
	if err := unix.Madvise(whole, advice); err != nil {
		return fmt.Errorf("%w: %w", err, ErrNoHuge)
	}
	return nil
}
