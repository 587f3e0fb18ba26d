package sysfs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A fileSet says which files a directory has. It never changes. Directories
// whose files have the same definitions share one, so that a file costs nothing
// until it is used.
type fileSet struct {
	attrs  []*Attribute // by index
	places []place      // by position
}

// A place is a file's place in listings.
type place struct {
	position uint64
	index    int
}

// maxFiles is the most files that one directory can have.
const maxFiles = 1<<16 - 2

func newFileSet(attrs []*Attribute) (*fileSet, error) {
	s := &fileSet{attrs: slices.Clone(attrs)}
	for i, a := range attrs {
		if err := a.check(); err != nil {
			return nil, err
		}
		at, taken := s.search(a.Name)
		if taken {
			return nil, fmt.Errorf("attribute %q: %w", a.Name, ErrExist)
		}
		s.places = slices.Insert(s.places, at, place{position(a.Name), i})
	}
	if len(attrs) > maxFiles {
		return nil, fmt.Errorf("%d files in one directory, want %d at most: %w", len(attrs), maxFiles, ErrInvalid)
	}
	return s, nil
}

// check returns why no file can have this definition, or nil.
func (a *Attribute) check() error {
	if err := checkName(a.Name); err != nil {
		return err
	}
	if a.Mode&^0o777 != 0 || a.Mode&0o444 != 0 && a.Show == nil || a.Mode&0o222 != 0 && a.Store == nil {
		return fmt.Errorf("attribute %q: mode %#o asks for a function that is not there: %w", a.Name, uint32(a.Mode), ErrInvalid)
	}
	return nil
}

// search returns where in places a name is, or where it would be.
func (s *fileSet) search(name string) (at int, found bool) {
	return slices.BinarySearchFunc(s.places, name, func(p place, name string) int {
		return compareEntries(p.position, s.attrs[p.index].Name, name)
	})
}

// compareEntries compares an entry with a name, in the order of listings.
func compareEntries(at uint64, have, name string) int {
	return cmp.Or(cmp.Compare(at, position(name)), strings.Compare(have, name))
}

// from returns the places at this position and after it.
func (s *fileSet) from(position uint64) []place {
	i, _ := slices.BinarySearchFunc(s.places, position, func(p place, position uint64) int {
		return cmp.Compare(p.position, position)
	})
	return s.places[i:]
}
