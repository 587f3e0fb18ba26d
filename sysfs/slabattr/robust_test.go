package slabattr

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"slabfs/alloc"
	"slabfs/sysfs"
)

// A program's own file in a cache's directory cannot destroy the cache, by none of its
// names, and neither can one below it; nothing changes. It may destroy another.
func TestDestroyFromOwnStore(t *testing.T) {
	for _, merge := range []bool{false, true} {
		t.Run(fmt.Sprintf("merge %v", merge), func(t *testing.T) {
			a, tree := newTreeOf(t, alloc.Options{Merge: merge})
			newCache := func(name string) *alloc.Cache {
				c, err := a.NewCache(name, 100, alloc.CacheOptions{ShellDelete: true})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			names := []string{"first", "second"} // with Merge they share a directory
			if !merge {
				names = names[:1]
			}
			var caches []*alloc.Cache
			for _, name := range names {
				caches = append(caches, newCache(name))
			}
			dir := tree.slab.Child(caches[0].ID()).(*sysfs.Kobject)
			deeper, err := dir.Add("deeper", nil)
			if err != nil {
				t.Fatal(err)
			}
			var victim string
			end := &sysfs.Attribute{Name: "end", Mode: 0o200, Store: func(context.Context, any, []byte) error { return a.DestroyName(victim) }}
			if err := errors.Join(dir.AddFile(nil, end), deeper.AddFile(nil, end)); err != nil {
				t.Fatal(err)
			}
			before := tree.entries()
			for _, file := range []string{"end", "deeper/end"} {
				path := slabDir + caches[0].ID() + "/" + file
				for _, victim = range names {
					if err := tree.echo(t, "1", path); !errors.Is(err, alloc.ErrCallback) {
						t.Errorf("destroy of %s by %s: %v; want ErrCallback", victim, path, err)
					}
				}
				tree.wantEntries(t, before)
				victim = "other"
				if _, err := a.NewCache(victim, 1000, alloc.CacheOptions{ShellDelete: true}); err != nil {
					t.Fatal(err)
				}
				if err := tree.echo(t, "1", path); err != nil {
					t.Errorf("destroy of another cache by %s: %v", path, err)
				}
				tree.wantEntries(t, before)
			}
			for _, c := range caches {
				c.Free(c.Alloc())
				if err := c.Destroy(); err != nil {
					t.Errorf("destroy from elsewhere: %v", err)
				}
			}
		})
	}
}
