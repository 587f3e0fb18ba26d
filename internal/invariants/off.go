//go:build !slabfs_invariants && !race

package invariants

// Enabled gates checks that cost too much for a release build.
const Enabled = false
