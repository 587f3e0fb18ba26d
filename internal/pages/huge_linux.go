//go:build !race

package pages

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const thp = "/sys/kernel/mm/transparent_hugepage/"

// adviseHuge tells the system about all of the arena's addresses, what is not used yet included.
//
// Preconditions: heap.mu is held.
func adviseHuge(want bool) error {
	advice := unix.MADV_NOHUGEPAGE
	if want {
		advice = unix.MADV_HUGEPAGE
		// The advice succeeds where it has no effect.
		if text, err := os.ReadFile(thp + "enabled"); err == nil && strings.Contains(string(text), "[never]") {
			return fmt.Errorf("%senabled is never: %w", thp, ErrNoHuge)
		}
		if text, err := os.ReadFile(thp + "hpage_pmd_size"); err == nil && strings.TrimSpace(string(text)) != strconv.Itoa(arenaAlign) {
			return fmt.Errorf("they have %s bytes, not %d: %w", strings.TrimSpace(string(text)), arenaAlign, ErrNoHuge)
		}
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
