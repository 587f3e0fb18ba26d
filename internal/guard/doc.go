// Package guard holds the tests by which the repository guards itself: which
// package may import which, where locks come from, where unsafe may be used,
// which pragmas are allowed. What they forbid is forbidden because it was
// decided once; who wants it otherwise changes the table here, in the same
// commit, and says why.
//
// The tests read every Go file of the module, whatever its build constraints.
package guard
