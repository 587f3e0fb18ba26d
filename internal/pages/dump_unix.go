//go:build unix && !linux

package pages

// dump does nothing. A system without such an advice dumps all touched memory.
func dump([]byte, bool) {}
