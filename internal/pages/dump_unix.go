//go:build unix && !linux

package pages

// dump does nothing: a system without such an advice dumps what was touched.
func dump([]byte, bool) {}
