package alloc

import (
	"testing"

	"slabfs/internal/fault"
)

// nowhere is a Publisher that does nothing.
type nowhere struct{}

func (nowhere) Publish(*Cache, string) error { return nil }
func (nowhere) Unlink(*Cache, string)        {}

// A release comes after the last unlink has ended, or is counted.
func TestEarlyReleases(t *testing.T) {
	for _, tc := range []struct {
		inject string
		want   uint64
	}{{"", 0}, {fault.ReleaseBeforeUnlink, 2}} {
		if tc.inject != "" {
			if err := fault.Inject(tc.inject); err != nil {
				t.Fatal(err)
			}
		}
		a, err := New(Options{Merge: true})
		fault.Reset()
		if err != nil {
			t.Fatal(err)
		}
		a.Attach(nowhere{})
		var caches []*Cache
		for _, flags := range []Flags{0, 0, NoMerge} { // two names of one core, and a core
			c, err := a.NewCache(string(rune('a'+len(caches))), 40, CacheOptions{Flags: flags})
			if err != nil {
				t.Fatal(err)
			}
			caches = append(caches, c)
		}
		for _, c := range caches {
			if err := c.Destroy(); err != nil {
				t.Error(err)
			}
		}
		if got := a.EarlyReleases(); got != tc.want {
			t.Errorf("inject %q: %d early releases; want %d", tc.inject, got, tc.want)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
