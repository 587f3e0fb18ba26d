package stress

import (
	"maps"
	"slices"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

// A census is a tree that shows nothing. It holds the allocator to what a
// Publisher is promised: no cache is published twice or under the name of
// another, Unlink comes after Publish and before the release, no link is there
// without its directory, and both run with no lock held.
type census struct {
	w     *world
	mu    lockdep.Mutex
	shown map[string]*alloc.Cache // mu
}

var censusClass = lockdep.NewClass("census_lock")

func newCensus(w *world) *census {
	s := &census{w: w, shown: make(map[string]*alloc.Cache)}
	s.mu.Init(censusClass)
	return s
}

// Publish also looks at the other caches, as a tree with a sum over all would:
// it takes slab_mutex for that.
func (s *census) Publish(c *alloc.Cache, name string) error {
	s.w.a.Caches()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown[name] != nil {
		s.w.saw(twice, "cache %q is published, but its name still has another cache", name)
	}
	if s.shown[c.ID()] == nil && name != c.ID() {
		s.w.saw(noDirectory, "cache %q is published, but not its directory %q", name, c.ID())
	}
	s.shown[name] = c
	return nil
}

func (s *census) Unlink(c *alloc.Cache, name string) {
	c.CheckReleased()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown[name] != c {
		s.w.saw(unpublished, "cache %q is unlinked, but was not published", name)
	}
	delete(s.shown, name)
	for link, d := range s.shown {
		if name == c.ID() && name == d.ID() {
			s.w.saw(linkLeft, "directory %q is unlinked, but not its cache %q", name, link)
		}
	}
}

func (s *census) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.shown))
}
