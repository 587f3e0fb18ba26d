package alloc

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"slabfs/internal/lockdep"
)

// A fakeTree is a Publisher that records what it is told, and fails the test
// when two events of a cache or of a name overtake each other, or when it has a link
// without its directory.
type fakeTree struct {
	tb      testing.TB
	label   string
	publish func(c *Cache) error // what Publish does beside recording; nil: nothing
	unlink  func(c *Cache)

	mu       lockdep.Mutex
	events   []string          // "publish NAME", "unlink NAME", when they begin
	shown    map[string]*Cache // from the beginning of a publish to the end of the unlink
	done     map[*Cache]string // how far each cache is
	detached atomic.Bool
}

func newTree(tb testing.TB, label string) *fakeTree {
	return &fakeTree{tb: tb, label: label, shown: make(map[string]*Cache), done: make(map[*Cache]string)}
}

func (t *fakeTree) Publish(c *Cache, name string) error {
	t.mu.Lock()
	t.events = append(t.events, "publish "+name)
	if was := t.done[c]; was != "" {
		t.tb.Errorf("tree %s: publish of %q after %q", t.label, name, was)
	}
	if d := t.shown[name]; d != nil {
		t.tb.Errorf("tree %s: publish of %q, which it shows already", t.label, name)
	}
	if c.Name() != name || !lockdep.InCallback() {
		t.tb.Errorf("tree %s: publish of %q, named %q, in a callback: %v", t.label, c.Name(), name, lockdep.InCallback())
	}
	if id := c.ID(); t.done[t.shown[id]] != "published" && id != name {
		t.tb.Errorf("tree %s: publish of %q, which is a link to %q, after %q of that", t.label, name, id, t.done[t.shown[id]])
	}
	t.shown[name], t.done[c] = c, "publishing"
	t.mu.Unlock()
	var err error
	if t.publish != nil {
		err = t.publish(c)
	}
	t.end(c, "published")
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		delete(t.shown, name)
		t.done[c] = "failed"
	}
	return err
}

func (t *fakeTree) Unlink(c *Cache, name string) {
	t.mu.Lock()
	t.events = append(t.events, "unlink "+name)
	if was := t.done[c]; was != "published" {
		t.tb.Errorf("tree %s: unlink of %q after %q", t.label, name, was)
	}
	for link, d := range t.shown {
		if c.isDirectory() && d != c && d.ID() == name {
			t.tb.Errorf("tree %s: unlink of %q, to which %q is a link", t.label, name, link)
		}
	}
	t.done[c] = "unlinking"
	t.mu.Unlock()
	if c.core.released.Load() {
		t.tb.Errorf("tree %s: %q is released before its unlink", t.label, name)
	}
	if t.unlink != nil {
		t.unlink(c)
	}
	if c.core.released.Load() {
		t.tb.Errorf("tree %s: %q is released during its unlink", t.label, name)
	}
	t.end(c, "unlinked")
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.shown, name)
}

func (t *fakeTree) end(c *Cache, state string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done[c] = state
	if t.detached.Load() {
		t.tb.Errorf("tree %s: %q is %s after detach returned", t.label, c.Name(), state)
	}
}

// take returns the events since the last call.
func (t *fakeTree) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	events := t.events
	t.events = nil
	return events
}

// shows reports whether the tree shows a cache of that name.
func (t *fakeTree) shows(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown[name] != nil
}

// checkShows fails unless the tree shows exactly the caches that can be used, and
// the directories that they share.
func (t *fakeTree) checkShows(a *Allocator) {
	t.tb.Helper()
	want := make(map[string]*Cache)
	for _, c := range a.Caches() {
		want[c.ID()], want[c.Name()] = c.core.root, c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !maps.Equal(t.shown, want) {
		t.tb.Errorf("tree %s shows %q; want %q", t.label, slices.Sorted(maps.Keys(t.shown)), slices.Sorted(maps.Keys(want)))
	}
}

// attach attaches a tree and returns what detaches it.
func (t *fakeTree) attach(a *Allocator) func() {
	detach := a.Attach(t)
	return func() {
		within("detach", detach)
		t.detached.Store(true)
	}
}

// withTrees runs f with 0, 1 and 2 trees attached.
func withTrees(t *testing.T, f func(t *testing.T, a *Allocator, log *recorder, trees []*fakeTree)) {
	for n := range 3 {
		t.Run(fmt.Sprintf("%d trees", n), func(t *testing.T) {
			a, log := recordingAllocator(t, Options{})
			var trees []*fakeTree
			for i := range n {
				tree := newTree(t, string(rune('A'+i)))
				tree.publish = func(*Cache) error { checkUnlocked(a); return nil }
				tree.unlink = func(*Cache) { checkUnlocked(a) }
				defer tree.attach(a)()
				tree.take()
				trees = append(trees, tree)
			}
			f(t, a, log, trees)
			for _, tree := range trees {
				tree.checkShows(a)
			}
		})
	}
}

// expect fails unless each tree was told exactly that since it was asked last.
func expect(t *testing.T, trees []*fakeTree, want ...string) {
	t.Helper()
	for _, tree := range trees {
		if got := tree.take(); !slices.Equal(got, want) {
			t.Errorf("tree %s was told %q; want %q", tree.label, got, want)
		}
	}
}

// soon waits until f reports true.
func soon(what string, f func() bool) {
	within(what, func() {
		for !f() {
			time.Sleep(time.Millisecond)
		}
	})
}
