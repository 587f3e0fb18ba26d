// Package invariants holds one constant, Enabled: whether checks that cost too
// much for a release build are compiled in. It is true with the build tag
// "invariants" and with -race.
package invariants
