// Package proctest reads figures of the test's own process from /proc, for
// tests.
package proctest
