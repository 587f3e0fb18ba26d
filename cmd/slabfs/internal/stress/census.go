package stress

import (
	"maps"
	"slices"

	"slabfs/alloc"
	"slabfs/internal/lockdep"
)

// A census is a tree that shows nothing. It checks that the allocator keeps its
// promises to a Publisher. No cache is published twice or under the name of
// another cache. Unlink comes after Publish and before the release. No link
// exists without its directory. No lock is held when Publish and Unlink run.
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

// Publish also lists the other caches, as a tree with a total over all caches
// would. That takes slab_mutex.
func (s *census) Publish(c *alloc.Cache, name string) error {
	s.w.a.Caches()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown[name] != nil {
		s.w.saw(twice, "cache %q is published, but another cache still has its name", name)
	}
	if s.shown[c.ID()] == nil && name != c.ID() {
		s.w.saw(noDirectory, "cache %q is published, but its directory %q is not", name, c.ID())
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
			s.w.saw(linkLeft, "directory %q is unlinked, but its cache %q is not", name, link)
		}
	}
}

func (s *census) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.shown))
}
