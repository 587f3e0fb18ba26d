// Package invariants holds one constant, Enabled: whether checks that cost too
// much for a release build are compiled in. It is true with the build tag
// slabfs_invariants and with -race.
//
// A build tag holds for every module of a program. Pebble has a tag named
// invariants, hence the prefix.
package invariants
