package sysfs

import (
	"fmt"
	"path/filepath"
)

// A Link is a symbolic link to a kobject. It stays when its target is removed.
type Link struct {
	node
	target string // I
}

const linkMode = 0o777 // which nothing checks

// Link adds a symbolic link to target, which must be in the same tree. It
// returns the same errors as Add, and ErrGone also if target is removed.
func (k *Kobject) Link(name string, target *Kobject) (*Link, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("link in %q: %w", k.Path(), err)
	}
	rel, err := filepath.Rel(k.Path(), target.Path())
	if err != nil || target.tree != k.tree {
		return nil, fmt.Errorf("link %q in %q: target of another tree: %w", name, k.Path(), ErrInvalid)
	}
	if target.Removed() {
		return nil, fmt.Errorf("link %q in %q: target %q: %w", name, k.Path(), target.Path(), ErrGone)
	}
	l := &Link{node: newNode(k.tree, k, name, linkMode, 0), target: rel}
	if err := k.publish(l); err != nil {
		return nil, err
	}
	return l, nil
}

// SetMeta lets change modify mode, owner and times. change runs under the
// tree's lock.
func (l *Link) SetMeta(change func(*Meta)) {
	l.setMeta(change)
	l.tree.tellChanged(l)
}

// Target returns what readlink shows: a path relative to the link's directory.
func (l *Link) Target() string { return l.target }

// Remove takes the link out of the tree and tells the observers. It may be
// called again.
func (l *Link) Remove() {
	t := l.tree
	t.mu.Lock()
	was := l.gone
	if !was {
		l.parent.drop(l)
		l.gone = true
	}
	t.mu.Unlock()
	if !was {
		t.tell(Removal{l.parent, l})
	}
}
