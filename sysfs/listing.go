package sysfs

import (
	"cmp"
	"iter"
	"slices"
)

// Listings are ordered by position, which is a hash of the name. Names with the
// same position are ordered by name and have the offsets from that position on.
// Among 40000 names this happens to about three pairs.
//
// Offsets have 31 bits, as in kernfs, because 32-bit programs cannot use longer
// ones. The offset after the last entry has to fit as well.
const (
	twins     = 8 // names of one position that have offsets of their own
	positions = 1<<31/twins - 2
)

// position is a hash (FNV-1a). It leaves the first offsets to "." and "..".
func position(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return twins * (1 + h%positions)
}

// List yields the children at offset from and after it, with their offsets.
// Offsets are at least 2 and below 2^31-1. If an entry leaves, the other
// entries keep their offsets, and an entry that comes back under its name has
// its old offset. Only names of one position are an exception.
func (k *Kobject) List(from uint64) iter.Seq2[uint64, Node] {
	return func(yield func(uint64, Node) bool) {
		last, rank := uint64(0), uint64(0)
		for _, n := range k.from(from - from%twins) {
			rank++
			if p := n.Position(); p != last {
				last, rank = p, 0
			}
			if at := last + min(rank, twins-1); at >= from && !yield(at, n) {
				return
			}
		}
	}
}

// from returns the children at this position and after it, by position and
// name.
func (k *Kobject) from(position uint64) []Node {
	k.tree.mu.Lock()
	defer k.tree.mu.Unlock()
	if k.gone {
		return nil
	}
	i, _ := slices.BinarySearchFunc(k.children, position, func(n Node, position uint64) int {
		return cmp.Compare(n.Position(), position)
	})
	files := k.files.Load()
	children, places := k.children[i:], files.from(position)
	nodes := make([]Node, 0, len(children)+len(places))
	for _, p := range places {
		f := k.file(files, p.index)
		for len(children) > 0 && compareEntries(children[0].Position(), children[0].Name(), f.attr.Name) < 0 {
			nodes, children = append(nodes, children[0]), children[1:]
		}
		nodes = append(nodes, f)
	}
	return append(nodes, children...)
}
