//go:build aix || freebsd

package pages

// noReserve is 0 here; see noreserve.go.
const noReserve = 0
